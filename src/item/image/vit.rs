//! Vision transformers under their Hugging Face names: ViT (Dosovitskiy et al. 2021), the encoder of ViT-MAE (He et al.
//! 2022; all patches, no masking), DINOv2 (Oquab et al. 2024), CLIP's vision tower (Radford et al. 2021).
//!
//! Source: transformers' `modeling_vit.py`, `modeling_vit_mae.py`, `modeling_dinov2.py`, `modeling_clip.py`. All are
//! pre-norm transformers; they differ in parameter names, layer scale, SwiGLU, and the position of the last norm.

use super::positions;
use super::{Backbone, Images};
use crate::error::Result;
use crate::item::prompt::Prompt;
use crate::nn::adapter::{LinearRole, Sublayer, SublayerAdapter};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec, MASKED, Pooling};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Segments, Weight};
use serde_json::Value;
use std::sync::Arc;

/// Family of vision transformers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// ViT, and the encoder of ViT-MAE, which has the same architecture.
    Vit,
    /// DINOv2.
    Dinov2,
    /// CLIP's vision tower.
    Clip,
}

/// Architecture of a vision transformer.
#[derive(Debug, Clone)]
pub struct VitConfig {
    /// Family that it belongs to.
    pub family: Family,
    /// Width of the hidden states.
    pub width: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Number of attention heads.
    pub heads: usize,
    /// Width inside the feed-forward part; with SwiGLU, of each half.
    pub inner: usize,
    /// Activation function of the feed-forward part; `None` means SwiGLU.
    pub activation: Option<Activation>,
    /// LayerNorm's ε.
    pub eps: f64,
    /// Side length of the images that the position table was trained on, in pixels.
    pub image: usize,
    /// Side length of a patch, in pixels.
    pub patch: usize,
    /// Whether query, key and value maps have biases.
    pub qkv_bias: bool,
    /// Initial value of layer scale.
    pub layer_scale: f32,
    /// Standard deviation of randomly initialised weights.
    pub sigma: f64,
    /// Dropout probabilities of hidden states and of attention weights.
    pub dropout: (f64, f64),
}

impl VitConfig {
    /// Parses `config.json`; the error message names what is not supported.
    pub fn parse(v: &Value) -> Result<Self, String> {
        let kind = v["model_type"].as_str().unwrap_or("vit");
        let family = match kind {
            "vit" | "vit_mae" => Family::Vit,
            "dinov2" => Family::Dinov2,
            "clip" | "clip_vision_model" => Family::Clip,
            other => return Err(format!("model_type `{other}` is no vision transformer that is known here")),
        };
        let v = if kind == "clip" && v["vision_config"].is_object() { &v["vision_config"] } else { v };
        // CLIP's configuration omits values that equal the defaults of its paper.
        let clip = family == Family::Clip;
        let size = |key: &str, default: Option<usize>| {
            v[key].as_u64().map(|n| n as usize).or(default).filter(|&n| n > 0).ok_or_else(|| format!("no `{key}`"))
        };
        let number = |key: &str, default: f64| v[key].as_f64().unwrap_or(default);
        let width = size("hidden_size", clip.then_some(768))?;
        let swiglu = v["use_swiglu_ffn"].as_bool().unwrap_or(false);
        let inner = match family {
            Family::Dinov2 => {
                let wide = (width as f64 * number("mlp_ratio", 4.0)) as usize;
                if swiglu { (wide * 2 / 3).div_ceil(8) * 8 } else { wide }
            }
            _ => size("intermediate_size", clip.then_some(3072))?,
        };
        let name = v["hidden_act"].as_str().unwrap_or(if clip { "quick_gelu" } else { "gelu" });
        let this = Self {
            family,
            width,
            layers: size("num_hidden_layers", clip.then_some(12))?,
            heads: size("num_attention_heads", clip.then_some(12))?,
            inner,
            activation: if swiglu { None } else { Some(super::backbone::activation(name)?) },
            eps: number(
                "layer_norm_eps",
                match family {
                    Family::Vit => 1e-12,
                    Family::Dinov2 => 1e-6,
                    Family::Clip => 1e-5,
                },
            ),
            image: size("image_size", Some(224))?,
            patch: size("patch_size", Some(if clip { 32 } else { 16 }))?,
            qkv_bias: v["qkv_bias"].as_bool().unwrap_or(true),
            layer_scale: number("layerscale_value", 1.0) as f32,
            sigma: number("initializer_range", 0.02),
            dropout: (number("hidden_dropout_prob", 0.0), number("attention_probs_dropout_prob", 0.0)),
        };
        // Bounds that no model comes near, so that a damaged number asks neither for too much memory nor too much time.
        let table = this.image / this.patch;
        let large = this.width > 1 << 16 || this.layers > 1 << 10 || this.inner > 1 << 20 || this.patch > 1 << 12;
        if large || this.inner == 0 || table > 128 {
            return Err(format!(
                "width {width}, {} layers, {} inside, {table}×{table} patches cannot be",
                this.layers, this.inner
            ));
        }
        if ![this.dropout.0, this.dropout.1].iter().all(|p| (0.0..1.0).contains(p))
            || ![this.eps, this.sigma].iter().all(|v| (0.0..=1e3).contains(v))
        {
            return Err("a dropout, layer_norm_eps or initializer_range is out of range".into());
        }
        if !this.width.is_multiple_of(this.heads) || this.image < this.patch {
            return Err(format!(
                "{} heads in a width of {}, patches of {} in {}",
                this.heads, width, this.patch, this.image
            ));
        }
        match v["num_channels"].as_u64() {
            None | Some(3) => Ok(this),
            Some(n) => Err(format!("num_channels = {n}; pictures have 3")),
        }
    }
}

struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    scale1: Option<Weight>,
    norm2: LayerNorm,
    inner: Linear,
    outer: Linear,
    scale2: Option<Weight>,
    after_attention: SublayerAdapter,
    after_output: SublayerAdapter,
}

/// Parameter names of a block: attention, its output, norms, feed-forward part.
type Names = [&'static str; 8];

fn names(c: &VitConfig) -> Names {
    let own = "attention.attention.";
    match c.family {
        Family::Vit => [
            own,
            "query",
            "key",
            "value",
            "attention.output.dense",
            "layernorm_before",
            "layernorm_after",
            "intermediate.dense",
        ],
        Family::Dinov2 => [own, "query", "key", "value", "attention.output.dense", "norm1", "norm2", "mlp.fc1"],
        Family::Clip => {
            ["self_attn.", "q_proj", "k_proj", "v_proj", "self_attn.out_proj", "layer_norm1", "layer_norm2", "mlp.fc1"]
        }
    }
}

impl Block {
    fn new(scope: &Scope, c: &VitConfig) -> Result<Self> {
        let (d, init) = (c.width, Init::Normal(c.sigma));
        let [attention, q, k, v, out, norm1, norm2, inner] = names(c);
        let dense = |name: &str, i: usize, o: usize, bias: bool| Linear::new(&scope.pp(name), i, o, bias, init);
        let norm = |name: &str| LayerNorm::new(&scope.pp(name), d, c.eps);
        let updated = |name: String, role: LinearRole| Linear::adapted(&scope.pp(name), role, (d, d), c.qkv_bias, init);
        let (inner, outer, wide) = match (c.family, c.activation) {
            (Family::Dinov2, None) => ("mlp.weights_in", "mlp.weights_out", 2 * c.inner),
            (Family::Vit, _) => (inner, "output.dense", c.inner),
            _ => (inner, "mlp.fc2", c.inner),
        };
        let scale = |name: &str| match c.family {
            Family::Dinov2 => scope.pp(name).weight("lambda1", &[d], Init::Constant(c.layer_scale)).map(Some),
            _ => Ok(None),
        };
        Ok(Self {
            norm1: norm(norm1)?,
            query: updated(format!("{attention}{q}"), LinearRole::Query)?,
            key: updated(format!("{attention}{k}"), LinearRole::Key)?,
            value: updated(format!("{attention}{v}"), LinearRole::Value)?,
            out: dense(out, d, d, true)?,
            scale1: scale("layer_scale1")?,
            norm2: norm(norm2)?,
            inner: dense(inner, d, wide, true)?,
            outer: Linear::adapted(&scope.pp(outer), LinearRole::Outer, (c.inner, d), true, init)?,
            scale2: scale("layer_scale2")?,
            after_attention: SublayerAdapter::new(scope, Sublayer::Attention, d)?,
            after_output: SublayerAdapter::new(scope, Sublayer::FeedForward, d)?,
        })
    }
    fn trains(&self) -> bool {
        [&self.query, &self.key, &self.value, &self.out, &self.inner, &self.outer].iter().any(|l| l.trains())
            || self.norm1.trains()
            || self.norm2.trains()
            || [&self.scale1, &self.scale2].into_iter().flatten().any(|w| w.trains())
            || self.after_attention.trains()
            || self.after_output.trains()
    }
    /// Adds a sub-layer's output: x + part, or x + scale ⊙ part. `h` is the sub-layer's input, for the adapter.
    fn join(
        pass: &Pass,
        x: &Act,
        part: Act,
        h: &Act,
        site: &SublayerAdapter,
        scale: &Option<Weight>,
        p: f32,
    ) -> Result<Act> {
        match scale {
            None => site.sum(pass, x, part, h, p),
            Some(s) => ops::add_scaled(pass, x, &site.apply(pass, h, ops::dropout(pass, &part, p)?)?, s),
        }
    }
}

/// Vision transformer backbone.
pub struct Vit {
    config: VitConfig,
    side: usize,
    class: Weight,
    patches: Weight,
    patch_bias: Option<Weight>,
    positions: Weight,
    /// Interpolation matrix of the position table, if the image's grid differs from the table's.
    mix: Option<Arc<Vec<f32>>>,
    /// CLIP's norm before the first block.
    first: Option<LayerNorm>,
    blocks: Vec<Block>,
    last: LayerNorm,
    prompt: Option<Prompt>,
}

impl Vit {
    /// Builds the network for images of `side` × `side` pixels.
    pub fn new(scope: &Scope, c: &VitConfig, side: usize) -> Result<Self> {
        let (d, p, init) = (c.width, c.patch, Init::Normal(c.sigma));
        let clip = c.family == Family::Clip;
        let scope = if clip { scope.pp("vision_model") } else { scope.clone() };
        let emb = scope.pp("embeddings");
        let (table, grid) = (c.image / p, side / p);
        if grid == 0 {
            let m = format!("{side} pixels are less than a patch of {p}");
            return Err(crate::Error::config("item.image.side", m));
        }
        if grid > 128 {
            let m = format!("{side} pixels are {grid}×{grid} patches, more than 128×128");
            return Err(crate::Error::config("item.image.side", m));
        }
        let rows = table * table + 1;
        let (class, patch, positions) = if clip {
            let table = emb.pp("position_embedding").weight("weight", &[rows, d], init)?;
            (emb.weight("class_embedding", &[d], init)?, emb.pp("patch_embedding"), table)
        } else {
            let table = emb.weight("position_embeddings", &[1, rows, d], init)?;
            (emb.weight("cls_token", &[1, 1, d], init)?, emb.pp("patch_embeddings.projection"), table)
        };
        let layer = if clip { "encoder.layers" } else { "encoder.layer" };
        let mix = (table != grid).then(|| Arc::new(positions::with_class(table, grid)));
        Ok(Self {
            side,
            class,
            patches: patch.weight("weight", &[d, 3, p, p], init)?,
            patch_bias: if clip { None } else { Some(patch.weight("bias", &[d], Init::Zeros)?) },
            positions,
            mix,
            first: if clip { Some(LayerNorm::new(&scope.pp("pre_layrnorm"), d, c.eps)?) } else { None },
            blocks: (0..c.layers)
                .map(|i| Block::new(&scope.pp(format!("{layer}.{i}")).within(i, c.layers), c))
                .collect::<Result<_>>()?,
            last: LayerNorm::new(&scope.pp(if clip { "post_layernorm" } else { "layernorm" }), d, c.eps)?,
            prompt: Prompt::new(&scope, c.layers, d, 1)?,
            config: c.clone(),
        })
    }
    fn tokens(&self) -> usize {
        (self.side / self.config.patch).pow(2) + 1
    }
    /// Number of prompt rows in each image after the first `blocks` blocks.
    fn prompted(&self, blocks: usize) -> usize {
        self.prompt.as_ref().filter(|p| p.first < blocks).map_or(0, Prompt::len)
    }
    /// Output of the last block without the rows of the prompt.
    fn own(&self, x: &Act, n: usize, pass: &Pass) -> Result<Act> {
        let (rows, t) = (x.dims2()?.0, self.tokens());
        match &self.prompt {
            Some(p) if rows != n && rows != n * t => {
                p.remove(pass, x, &Segments::from_lengths(std::iter::repeat_n(t, n)))
            }
            _ => Ok(x.clone()),
        }
    }
    fn embeddings_train(&self) -> bool {
        let some = [Some(&self.class), Some(&self.patches), self.patch_bias.as_ref(), Some(&self.positions)];
        some.into_iter().flatten().any(|w| w.trains()) || self.first.as_ref().is_some_and(LayerNorm::trains)
    }
}

impl Backbone for Vit {
    fn width(&self) -> usize {
        self.config.width
    }
    fn blocks(&self) -> usize {
        self.blocks.len()
    }
    fn trains(&self, block: Option<usize>) -> bool {
        match block {
            None => self.embeddings_train(),
            Some(i) => self.blocks[i].trains() || self.prompt.as_ref().is_some_and(|p| p.first == i && p.trains()),
        }
    }
    fn head_trains(&self) -> bool {
        self.last.trains()
    }
    fn shape_after(&self, blocks: usize) -> (usize, usize) {
        (self.tokens() + self.prompted(blocks), self.config.width)
    }
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act> {
        let (c, n, t) = (&self.config, images.count(), self.tokens());
        let device = self.class.value().device().clone();
        let pixels = Act::constant(images.patches(c.patch)?.to_device(&device)?);
        let x = ops::linear(pass, &pixels, &Linear::of(self.patches.clone(), self.patch_bias.clone()))?;
        // The class token comes before the patches of each image.
        let ids = (0..n * t).map(|r| match r % t {
            0 => MASKED,
            at => (r / t * (t - 1) + at - 1) as u32,
        });
        let x = ops::gather_or_fill(pass, &x, Arc::new(ids.collect()), Some(&self.class))?;
        let places = Arc::new((0..n).flat_map(|_| 0..t as u32).collect::<Vec<u32>>());
        let mut x = match &self.mix {
            None => ops::embed(pass, Some(&x), &[(&self.positions, places)])?,
            Some(m) => {
                let table = ops::interpolate_rows(pass, &self.positions, m)?;
                ops::add(pass, &x, &ops::gather(pass, &table, places)?, 0.0)?
            }
        };
        if let Some(norm) = &self.first {
            x = ops::add_norm(pass, &x, None, norm, 0.0)?;
        }
        ops::dropout(pass, &x, c.dropout.0 as f32)
    }
    fn block(&self, i: usize, x: &Act, n: usize, pass: &Pass, only_class: bool) -> Result<Act> {
        let (c, b) = (&self.config, &self.blocks[i]);
        let p = c.dropout.0 as f32;
        let mut segments = Segments::from_lengths(std::iter::repeat_n(self.tokens() + self.prompted(i), n));
        let mut x = x.clone();
        if let Some(prompt) = self.prompt.as_ref().filter(|p| p.first == i) {
            (x, segments) = prompt.insert(pass, &x, &segments)?;
        }
        let t = self.tokens() + self.prompted(i + 1);
        let mut h = ops::add_norm(pass, &x, None, &b.norm1, 0.0)?;
        let qkv = ops::linears(pass, &h, &[&b.query, &b.key, &b.value])?;
        let spec = AttentionSpec { heads: c.heads, causal: false, dropout: c.dropout.1 as f32 };
        let mut a = ops::attention(pass, &qkv, &segments, spec)?;
        if only_class {
            // The layers after this block use only the class token.
            let first = Arc::new((0..n).map(|i| (i * t) as u32).collect::<Vec<_>>());
            (a, x) = (ops::gather(pass, &a, first.clone())?, ops::gather(pass, &x, first.clone())?);
            h = ops::gather(pass, &h, first)?;
        }
        let a = ops::linear(pass, &a, &b.out)?;
        let x = Block::join(pass, &x, a, &h, &b.after_attention, &b.scale1, p)?;
        let h = ops::add_norm(pass, &x, None, &b.norm2, 0.0)?;
        let f = match c.activation {
            Some(f) => ops::feed_forward(pass, &h, &b.inner, f, &b.outer)?,
            None => ops::linear(pass, &ops::swiglu(pass, &ops::linear(pass, &h, &b.inner)?)?, &b.outer)?,
        };
        Block::join(pass, &x, f, &h, &b.after_output, &b.scale2, p)
    }
    fn head(&self, x: &Act, n: usize, how: Pooling, pass: &Pass) -> Result<Act> {
        let x = &self.own(x, n, pass)?;
        let rows = x.dims2()?.0 / n.max(1);
        let segments = Segments::from_lengths(std::iter::repeat_n(rows, n));
        match (how, self.config.family) {
            // In CLIP the last norm applies to the class token only.
            (Pooling::Mean, Family::Clip) => ops::pool(pass, x, &segments, how),
            (Pooling::Cls, _) => {
                let x = if rows == 1 { x.clone() } else { ops::pool(pass, x, &segments, how)? };
                ops::add_norm(pass, &x, None, &self.last, 0.0)
            }
            _ => ops::pool(pass, &ops::add_norm(pass, x, None, &self.last, 0.0)?, &segments, how),
        }
    }
    fn rows(&self, x: &Act, n: usize, pass: &Pass) -> Result<Act> {
        let x = &self.own(x, n, pass)?;
        match self.config.family {
            Family::Clip => Ok(x.clone()),
            _ => ops::add_norm(pass, x, None, &self.last, 0.0),
        }
    }
    fn has_class(&self) -> bool {
        true
    }
}
