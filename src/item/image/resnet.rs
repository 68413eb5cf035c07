//! ResNet (He et al. 2016; bottlenecks as in v1.5) under its Hugging Face names.
//!
//! Source: transformers' `modeling_resnet.py`. Each pixel is a row of channels; an image is `h·w` rows.

use super::{Backbone, Images};
use crate::config::BatchNormMode;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::ops::{self, Grid, Pooling};
use crate::nn::{Act, BatchNorm, Pass, Scope, Segments, Weight};
use serde_json::Value;

/// Architecture of a ResNet.
#[derive(Debug, Clone)]
pub struct ResNetConfig {
    /// Channels after the stem.
    pub stem: usize,
    /// Channels after each stage.
    pub widths: Vec<usize>,
    /// Number of blocks of each stage.
    pub depths: Vec<usize>,
    /// Whether blocks are bottlenecks (1×1, 3×3, 1×1 with a quarter of the channels inside) or basic (3×3, 3×3).
    pub bottleneck: bool,
    /// Whether the first stage halves height and width, too.
    pub first_halves: bool,
    /// Whether a bottleneck has its stride in the first 1×1 convolution (v1) instead of the 3×3.
    pub halves_early: bool,
}

impl ResNetConfig {
    /// Parses `config.json`; the error message names what is not supported.
    pub fn parse(v: &Value) -> Result<Self, String> {
        let list = |key: &str, default: [usize; 4]| -> Vec<usize> {
            let all = v[key].as_array().map(|a| a.iter().filter_map(|n| Some(n.as_u64()? as usize)).collect());
            all.unwrap_or_else(|| default.to_vec())
        };
        let yes = |key: &str| v[key].as_bool().unwrap_or(false);
        let bottleneck = match v["layer_type"].as_str().unwrap_or("bottleneck") {
            "bottleneck" => true,
            "basic" => false,
            other => return Err(format!("layer_type `{other}` is neither basic nor bottleneck")),
        };
        match v["hidden_act"].as_str() {
            None | Some("relu") => {}
            Some(other) => return Err(format!("hidden_act `{other}`: only relu is known")),
        }
        let this = Self {
            stem: v["embedding_size"].as_u64().unwrap_or(64) as usize,
            widths: list("hidden_sizes", [256, 512, 1024, 2048]),
            depths: list("depths", [3, 4, 6, 3]),
            bottleneck,
            first_halves: yes("downsample_in_first_stage"),
            halves_early: yes("downsample_in_bottleneck"),
        };
        // Bounds that no model comes near, so that a damaged number asks neither for too much memory nor too much time.
        if this.stem > 1 << 16 || this.widths.iter().any(|w| *w > 1 << 16) || this.depths.iter().any(|d| *d > 1 << 8) {
            return Err(format!("hidden_sizes {:?} or depths {:?} are too large", this.widths, this.depths));
        }
        if this.stem == 0 || this.widths.iter().any(|w| *w == 0 || this.bottleneck && !w.is_multiple_of(4)) {
            return Err(format!("embedding_size {} or hidden_sizes {:?} cannot be", this.stem, this.widths));
        }
        if this.widths.is_empty()
            || this.widths.len() != this.depths.len()
            || this.depths.len() > 8
            || this.depths.contains(&0)
        {
            return Err(format!("hidden_sizes {:?} and depths {:?} do not fit", this.widths, this.depths));
        }
        Ok(this)
    }
}

/// Convolution followed by batch normalisation.
struct Conv {
    weight: Weight,
    norm: BatchNorm,
    stride: usize,
}

impl Conv {
    fn new(scope: &Scope, from: usize, to: usize, k: usize, stride: usize) -> Result<Self> {
        // PyTorch's kaiming_normal_(mode="fan_out", nonlinearity="relu").
        let sigma = (2.0 / (to * k * k) as f64).sqrt();
        Ok(Self {
            weight: scope.pp("convolution").weight("weight", &[to, from, k, k], Init::Normal(sigma))?,
            norm: BatchNorm::new(&scope.pp("normalization"), to)?,
            stride,
        })
    }
    fn trains(&self) -> bool {
        self.weight.trains() || self.norm.trains()
    }
    fn run(
        &self,
        x: &Act,
        grid: Grid,
        mode: BatchNormMode,
        rest: Option<&Act>,
        relu: bool,
        pass: &Pass,
    ) -> Result<(Act, Grid)> {
        let pad = self.weight.shape()[2] / 2;
        let fixed = mode == BatchNormMode::Frozen || !pass.is_train();
        let learns = x.tracked() || self.trains() || rest.is_some_and(Act::tracked);
        if fixed && !pass.records(learns) && pass.fused(x.value().device()) {
            let (scale, shift) = self.norm.fixed()?;
            return ops::conv2d_fixed(x, grid, &self.weight, (self.stride, pad), (&scale, &shift), rest, relu);
        }
        let (x, grid, stride) = if pad == 0 && self.stride > 1 {
            // A 1×1 filter with a stride: select the pixels, then apply it as a linear map.
            let (x, grid) = ops::subsample(pass, x, grid, self.stride)?;
            (x, grid, 1)
        } else {
            (x.clone(), grid, self.stride)
        };
        let (y, grid) = ops::conv2d(pass, &x, grid, &self.weight, stride, pad)?;
        Ok((ops::batch_norm(pass, &y, &self.norm, mode == BatchNormMode::Train, rest, relu)?, grid))
    }
}

struct Block {
    layers: Vec<Conv>,
    shortcut: Option<Conv>,
}

impl Block {
    fn new(scope: &Scope, c: &ResNetConfig, from: usize, to: usize, stride: usize) -> Result<Self> {
        let at = |i: usize| scope.pp(format!("layer.{i}"));
        let layers = if c.bottleneck {
            let inner = to / 4;
            let (early, late) = if c.halves_early { (stride, 1) } else { (1, stride) };
            vec![
                Conv::new(&at(0), from, inner, 1, early)?,
                Conv::new(&at(1), inner, inner, 3, late)?,
                Conv::new(&at(2), inner, to, 1, 1)?,
            ]
        } else {
            vec![Conv::new(&at(0), from, to, 3, stride)?, Conv::new(&at(1), to, to, 3, 1)?]
        };
        let changes = from != to || stride != 1;
        let shortcut = if changes { Some(Conv::new(&scope.pp("shortcut"), from, to, 1, stride)?) } else { None };
        Ok(Self { layers, shortcut })
    }
    fn trains(&self) -> bool {
        self.layers.iter().chain(&self.shortcut).any(Conv::trains)
    }
    fn run(&self, x: &Act, grid: Grid, mode: BatchNormMode, pass: &Pass) -> Result<Act> {
        let rest = match &self.shortcut {
            Some(s) => s.run(x, grid, mode, None, false, pass)?.0,
            None => x.clone(),
        };
        let (mut y, mut g) = (x.clone(), grid);
        for (i, layer) in self.layers.iter().enumerate() {
            let last = i + 1 == self.layers.len();
            (y, g) = layer.run(&y, g, mode, last.then_some(&rest), true, pass)?;
        }
        Ok(y)
    }
}

/// ResNet backbone.
pub struct ResNet {
    config: ResNetConfig,
    mode: BatchNormMode,
    stem: Conv,
    blocks: Vec<Block>,
    /// Grid (of one image) and channels before each block, and after the last one.
    shapes: Vec<(Grid, usize)>,
}

impl ResNet {
    /// Builds the network for images of height `h` and width `w`.
    pub fn new(scope: &Scope, c: &ResNetConfig, (h, w): (usize, usize), mode: BatchNormMode) -> Result<Self> {
        if h.min(w) < 32 {
            return Err(crate::Error::config(
                "item.image.side",
                format!("{h}×{w} is too small for a ResNet: at least 32"),
            ));
        }
        let stem = Conv::new(&scope.pp("embedder.embedder"), 3, c.stem, 7, 2)?;
        let mut grid = Grid { n: 1, h, w }.conv_output(7, 2, 3).conv_output(3, 2, 1);
        let (mut blocks, mut shapes, mut from) = (vec![], vec![], c.stem);
        for (s, (&to, &depth)) in c.widths.iter().zip(&c.depths).enumerate() {
            for i in 0..depth {
                shapes.push((grid, from));
                let stride = if i == 0 && (s > 0 || c.first_halves) { 2 } else { 1 };
                blocks.push(Block::new(&scope.pp(format!("encoder.stages.{s}.layers.{i}")), c, from, to, stride)?);
                grid = grid.conv_output(3, stride, 1);
                from = to;
            }
        }
        shapes.push((grid, from));
        Ok(Self { config: c.clone(), mode, stem, blocks, shapes })
    }
}

impl Backbone for ResNet {
    fn width(&self) -> usize {
        self.config.widths.last().copied().unwrap_or(0)
    }
    fn blocks(&self) -> usize {
        self.blocks.len()
    }
    fn trains(&self, block: Option<usize>) -> bool {
        match block {
            None => self.stem.trains(),
            Some(i) => self.blocks[i].trains(),
        }
    }
    fn head_trains(&self) -> bool {
        false
    }
    fn shape_after(&self, blocks: usize) -> (usize, usize) {
        let (grid, c) = self.shapes[blocks];
        (grid.area(), c)
    }
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act> {
        let (h, w) = images.size();
        let grid = Grid { n: images.count(), h, w };
        let device = self.stem.weight.value().device().clone();
        let x = Act::constant(images.pixels()?.to_device(&device)?);
        let (x, grid) = self.stem.run(&x, grid, self.mode, None, true, pass)?;
        Ok(ops::max_pool(pass, &x, grid, 3, 2, 1)?.0)
    }
    fn block(&self, i: usize, x: &Act, n: usize, pass: &Pass, _: bool) -> Result<Act> {
        self.blocks[i].run(x, Grid { n, ..self.shapes[i].0 }, self.mode, pass)
    }
    fn head(&self, x: &Act, n: usize, _: Pooling, pass: &Pass) -> Result<Act> {
        let rows = x.dims2()?.0 / n.max(1);
        ops::pool(pass, x, &Segments::from_lengths(std::iter::repeat_n(rows, n)), Pooling::Mean)
    }
    fn rows(&self, x: &Act, _: usize, _: &Pass) -> Result<Act> {
        Ok(x.clone())
    }
    fn has_class(&self) -> bool {
        false
    }
}
