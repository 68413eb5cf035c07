//! Swin transformer (Liu et al. 2021) under its Hugging Face names.
//!
//! Source: transformers' `modeling_swin.py`. Windows are formed by gathering rows, so that shifted windows have no
//! extra cost.

use super::{Backbone, Images};
use crate::error::{Error, Result};
use crate::nn::adapter::{LinearRole, Sublayer, SublayerAdapter};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling, WindowBias};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Segments, Weight};
use serde_json::Value;
use std::sync::Arc;

/// ε of the norms to which the configuration's `layer_norm_eps` does not apply.
const PLAIN: f64 = 1e-5;

/// Architecture of a Swin transformer.
#[derive(Debug, Clone)]
pub struct SwinConfig {
    /// Width of the first stage; each further stage doubles it.
    pub width: usize,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Number of attention heads of each stage.
    pub heads: Vec<usize>,
    /// Side length of a window, in patches.
    pub window: usize,
    /// Side length of a patch, in pixels.
    pub patch: usize,
    /// Side length of the images it was trained on, in pixels.
    pub image: usize,
    /// Width inside the feed-forward part, as a multiple of the block's width.
    pub ratio: f64,
    /// Activation function of the feed-forward part.
    pub activation: Activation,
    /// Whether query, key and value maps have biases.
    pub qkv_bias: bool,
    /// LayerNorm's ε.
    pub eps: f64,
    /// Standard deviation of randomly initialised weights.
    pub sigma: f64,
}

impl SwinConfig {
    /// Parses `config.json`; the error message names what is not supported.
    pub fn parse(v: &Value) -> Result<Self, String> {
        let size = |key: &str, default: usize| v[key].as_u64().map_or(default, |n| n as usize);
        let list = |key: &str, default: [usize; 4]| -> Vec<usize> {
            let all = v[key].as_array().map(|a| a.iter().filter_map(|n| Some(n.as_u64()? as usize)).collect());
            all.unwrap_or_else(|| default.to_vec())
        };
        if v["use_absolute_embeddings"].as_bool().unwrap_or(false) {
            return Err("use_absolute_embeddings is not known here".into());
        }
        let this = Self {
            width: size("embed_dim", 96),
            depths: list("depths", [2, 2, 6, 2]),
            heads: list("num_heads", [3, 6, 12, 24]),
            window: size("window_size", 7),
            patch: size("patch_size", 4),
            image: size("image_size", 224),
            ratio: v["mlp_ratio"].as_f64().unwrap_or(4.0),
            activation: super::backbone::activation(v["hidden_act"].as_str().unwrap_or("gelu"))?,
            qkv_bias: v["qkv_bias"].as_bool().unwrap_or(true),
            eps: v["layer_norm_eps"].as_f64().unwrap_or(1e-5),
            sigma: v["initializer_range"].as_f64().unwrap_or(0.02),
        };
        if this.depths.contains(&0) || this.heads.contains(&0) || this.width == 0 || this.depths.len() > 16 {
            return Err(format!("depths {:?}, num_heads {:?}, embed_dim {}", this.depths, this.heads, this.width));
        }
        if this.depths.is_empty() || this.depths.len() != this.heads.len() || this.window == 0 || this.patch == 0 {
            return Err(format!("depths {:?} and num_heads {:?} do not fit", this.depths, this.heads));
        }
        // Bounds that no model comes near, so that a damaged number asks neither for too much memory nor too much time.
        let last =
            this.width.checked_shl(this.depths.len() as u32 - 1).filter(|w| this.width <= 1 << 16 && *w <= 1 << 16);
        let inner = last.map_or(f64::INFINITY, |w| w as f64 * this.ratio);
        let large =
            this.depths.iter().chain(&this.heads).any(|n| *n > 1 << 10) || this.window > 32 || this.patch > 1 << 12;
        if large || !(1.0..=f64::from(1 << 20)).contains(&inner) || this.width as f64 * this.ratio < 1.0 {
            return Err(format!(
                "embed_dim {}, depths {:?}, num_heads {:?}, window_size {}, patch_size {}, mlp_ratio {} cannot be",
                this.width, this.depths, this.heads, this.window, this.patch, this.ratio
            ));
        }
        if ![this.eps, this.sigma].iter().all(|v| (0.0..=1e3).contains(v)) {
            return Err("layer_norm_eps or initializer_range is out of range".into());
        }
        Ok(this)
    }
}

struct Block {
    norm1: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm2: LayerNorm,
    inner: Linear,
    outer: Linear,
    bias: WindowBias,
    heads: usize,
    /// Side length of the block's windows, in patches.
    window: usize,
    /// For each row in window order the row of the image it comes from.
    into: Vec<u32>,
    /// For each row of the image its row in window order.
    back: Vec<u32>,
    merge: Option<Merge>,
    after_attention: SublayerAdapter,
    after_output: SublayerAdapter,
}

/// Patch merging: four neighbouring patches are concatenated, normalised, and mapped to twice the width.
struct Merge {
    norm: LayerNorm,
    reduction: Linear,
}

/// Indices of a `side` × `side` grid in window order, after a cyclic shift by −shift.
fn windows(side: usize, window: usize, shift: usize) -> Vec<u32> {
    let per = side / window;
    let mut ids = Vec::with_capacity(side * side);
    for w in 0..per * per {
        for i in 0..window * window {
            let y = (w / per * window + i / window + shift) % side;
            let x = (w % per * window + i % window + shift) % side;
            ids.push((y * side + x) as u32);
        }
    }
    ids
}

/// Attention mask: −100 between positions that are neighbours only through the cyclic shift, otherwise 0.
fn shift_mask(side: usize, window: usize, shift: usize) -> Vec<f32> {
    let band = |v: usize| {
        if v < side - window {
            0
        } else if v < side - shift {
            1
        } else {
            2
        }
    };
    let (per, l) = (side / window, window * window);
    let mut out = Vec::with_capacity(per * per * l * l);
    for w in 0..per * per {
        let region = |i: usize| {
            let (y, x) = (w / per * window + i / window, w % per * window + i % window);
            3 * band(y) + band(x)
        };
        for i in 0..l {
            out.extend((0..l).map(|j| if region(i) == region(j) { 0.0 } else { -100.0 }));
        }
    }
    out
}

/// Row of the bias table for each pair of positions in a window.
fn relative(window: usize) -> Vec<u32> {
    let (l, span) = (window * window, 2 * window - 1);
    (0..l * l)
        .map(|k| {
            let (i, j) = (k / l, k % l);
            let dy = i / window + window - 1 - j / window;
            let dx = i % window + window - 1 - j % window;
            (dy * span + dx) as u32
        })
        .collect()
}

impl Block {
    fn new(scope: &Scope, c: &SwinConfig, (stage, index): (usize, usize), side: usize, whole: usize) -> Result<Self> {
        let (d, heads, init) = (c.width << stage, c.heads[stage], Init::Normal(c.sigma));
        // A smaller window needs a bias table of another size than the encoder has, except at the encoder's own image
        // size.
        if side < c.window && c.image != whole {
            let m = format!("stage {stage} has {side}×{side} patches, less than a window of {}", c.window);
            return Err(Error::config("item.image.side", m));
        }
        let window = c.window.min(side);
        let shift = if index % 2 == 1 && side > c.window { c.window / 2 } else { 0 };
        if !side.is_multiple_of(window) || !d.is_multiple_of(heads) {
            let m = format!(
                "stage {stage} has {side}×{side} patches, which windows of {window} do not divide; take a side for which they do"
            );
            return Err(Error::config("item.image.side", m));
        }
        let own = scope.pp("attention.self");
        let dense = |s: Scope, i: usize, o: usize| Linear::new(&s, i, o, true, init);
        let updated = |name: &str, role: LinearRole| Linear::adapted(&own.pp(name), role, (d, d), c.qkv_bias, init);
        let wide = (d as f64 * c.ratio) as usize;
        let into = windows(side, window, shift);
        let mut back = vec![0; into.len()];
        into.iter().enumerate().for_each(|(at, &from)| back[from as usize] = at as u32);
        let entries = (2 * window - 1).pow(2);
        Ok(Self {
            norm1: LayerNorm::new(&scope.pp("layernorm_before"), d, c.eps)?,
            query: updated("query", LinearRole::Query)?,
            key: updated("key", LinearRole::Key)?,
            value: updated("value", LinearRole::Value)?,
            out: dense(scope.pp("attention.output.dense"), d, d)?,
            norm2: LayerNorm::new(&scope.pp("layernorm_after"), d, c.eps)?,
            inner: dense(scope.pp("intermediate.dense"), d, wide)?,
            outer: Linear::adapted(&scope.pp("output.dense"), LinearRole::Outer, (wide, d), true, init)?,
            bias: WindowBias {
                table: own.weight("relative_position_bias_table", &[entries, heads], Init::Zeros)?,
                index: Arc::new(relative(window)),
                mask: (shift > 0).then(|| Arc::new(shift_mask(side, window, shift))),
            },
            heads,
            window,
            into,
            back,
            merge: None,
            after_attention: SublayerAdapter::new(scope, Sublayer::Attention, d)?,
            after_output: SublayerAdapter::new(scope, Sublayer::FeedForward, d)?,
        })
    }
    fn trains(&self) -> bool {
        let lines = [&self.query, &self.key, &self.value, &self.out, &self.inner, &self.outer];
        lines.iter().any(|l| l.trains())
            || self.norm1.trains()
            || self.norm2.trains()
            || self.bias.table.trains()
            || self.after_attention.trains()
            || self.after_output.trains()
            || self.merge.as_ref().is_some_and(|m| m.norm.trains() || m.reduction.trains())
    }
}

/// Repeats the order of one image's rows for each of n images.
fn repeat(ids: &[u32], n: usize) -> Arc<Vec<u32>> {
    let l = ids.len() as u32;
    Arc::new((0..n as u32).flat_map(|p| ids.iter().map(move |i| p * l + i)).collect())
}

/// Swin backbone.
pub struct Swin {
    config: SwinConfig,
    patches: Weight,
    patch_bias: Weight,
    first: LayerNorm,
    blocks: Vec<Block>,
    /// Side length of the grid and width before each block, and after the last one.
    shapes: Vec<(usize, usize)>,
    last: LayerNorm,
}

impl Swin {
    /// Builds the network for images of `side` × `side` pixels.
    pub fn new(scope: &Scope, c: &SwinConfig, side: usize) -> Result<Self> {
        let (d, p, init) = (c.width, c.patch, Init::Normal(c.sigma));
        let patch = scope.pp("embeddings.patch_embeddings.projection");
        let mut grid = side / p;
        if grid == 0 || !side.is_multiple_of(p) {
            return Err(Error::config("item.image.side", format!("{side} is no multiple of its patches of {p}")));
        }
        let (mut blocks, mut shapes) = (vec![], vec![]);
        for (s, &depth) in c.depths.iter().enumerate() {
            let stage = scope.pp(format!("encoder.layers.{s}"));
            for i in 0..depth {
                shapes.push((grid, d << s));
                let at = stage.pp(format!("blocks.{i}")).within(blocks.len(), c.depths.iter().sum());
                blocks.push(Block::new(&at, c, (s, i), grid, side)?);
            }
            if s + 1 < c.depths.len() {
                if !grid.is_multiple_of(2) {
                    let m = format!("stage {s} has an odd grid of {grid}, which cannot be halved");
                    return Err(Error::config("item.image.side", m));
                }
                let (at, w) = (stage.pp("downsample"), d << s);
                let merge = Merge {
                    norm: LayerNorm::new(&at.pp("norm"), 4 * w, PLAIN)?,
                    reduction: Linear::new(&at.pp("reduction"), 4 * w, 2 * w, false, init)?,
                };
                if let Some(b) = blocks.last_mut() {
                    b.merge = Some(merge);
                }
                grid /= 2;
            }
        }
        let width = d << (c.depths.len() - 1);
        shapes.push((grid, width));
        Ok(Self {
            patches: patch.weight("weight", &[d, 3, p, p], init)?,
            patch_bias: patch.weight("bias", &[d], Init::Zeros)?,
            first: LayerNorm::new(&scope.pp("embeddings.norm"), d, PLAIN)?,
            blocks,
            shapes,
            last: LayerNorm::new(&scope.pp("layernorm"), width, c.eps)?,
            config: c.clone(),
        })
    }
    /// Merges 2 × 2 patches: (n·side², d) → (n·side²/4, 2d).
    fn merge(&self, m: &Merge, x: &Act, n: usize, side: usize, pass: &Pass) -> Result<Act> {
        let half = side / 2;
        // In Hugging Face's order: upper left, lower left, upper right, lower right.
        let parts = [(0, 0), (1, 0), (0, 1), (1, 1)]
            .map(|(dy, dx)| {
                let ids: Vec<u32> =
                    (0..half * half).map(|i| ((i / half * 2 + dy) * side + i % half * 2 + dx) as u32).collect();
                // `repeat` cannot be used: `ids` covers only a quarter of an image's rows.
                let all = (0..n as u32).flat_map(|p| ids.iter().map(move |i| p * (side * side) as u32 + i)).collect();
                ops::gather(pass, x, Arc::new(all))
            })
            .into_iter()
            .collect::<Result<Vec<_>>>()?;
        let wide = ops::concat_columns(pass, &parts.iter().collect::<Vec<_>>())?;
        let wide = ops::add_norm(pass, &wide, None, &m.norm, 0.0)?;
        ops::linear(pass, &wide, &m.reduction)
    }
}

impl Backbone for Swin {
    fn width(&self) -> usize {
        self.shapes.last().map_or(0, |s| s.1)
    }
    fn blocks(&self) -> usize {
        self.blocks.len()
    }
    fn trains(&self, block: Option<usize>) -> bool {
        match block {
            None => self.patches.trains() || self.patch_bias.trains() || self.first.trains(),
            Some(i) => self.blocks[i].trains(),
        }
    }
    fn head_trains(&self) -> bool {
        self.last.trains()
    }
    fn shape_after(&self, blocks: usize) -> (usize, usize) {
        let (side, width) = self.shapes[blocks];
        (side * side, width)
    }
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act> {
        let device = self.patches.value().device().clone();
        let pixels = Act::constant(images.patches(self.config.patch)?.to_device(&device)?);
        let layer = Linear::of(self.patches.clone(), Some(self.patch_bias.clone()));
        let x = ops::linear(pass, &pixels, &layer)?;
        ops::add_norm(pass, &x, None, &self.first, 0.0)
    }
    fn block(&self, i: usize, x: &Act, n: usize, pass: &Pass, _: bool) -> Result<Act> {
        let (b, (side, _)) = (&self.blocks[i], self.shapes[i]);
        let h = ops::add_norm(pass, x, None, &b.norm1, 0.0)?;
        let rolled = ops::gather(pass, &h, repeat(&b.into, n))?;
        let qkv = ops::linears(pass, &rolled, &[&b.query, &b.key, &b.value])?;
        let a = ops::window_attention(pass, &qkv, b.window * b.window, b.heads, &b.bias)?;
        let a = ops::linear(pass, &a, &b.out)?;
        let a = ops::gather(pass, &a, repeat(&b.back, n))?;
        let x = b.after_attention.sum(pass, x, a, &h, 0.0)?;
        let h = ops::add_norm(pass, &x, None, &b.norm2, 0.0)?;
        let f = ops::feed_forward(pass, &h, &b.inner, self.config.activation, &b.outer)?;
        let x = b.after_output.sum(pass, &x, f, &h, 0.0)?;
        match &b.merge {
            Some(m) => self.merge(m, &x, n, side, pass),
            None => Ok(x),
        }
    }
    fn head(&self, x: &Act, n: usize, _: Pooling, pass: &Pass) -> Result<Act> {
        let rows = x.dims2()?.0 / n.max(1);
        let x = ops::add_norm(pass, x, None, &self.last, 0.0)?;
        ops::pool(pass, &x, &Segments::from_lengths(std::iter::repeat_n(rows, n)), Pooling::Mean)
    }
    fn rows(&self, x: &Act, _: usize, pass: &Pass) -> Result<Act> {
        ops::add_norm(pass, x, None, &self.last, 0.0)
    }
    fn has_class(&self) -> bool {
        false
    }
}
