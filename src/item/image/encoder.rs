//! Image encoder: images → (n, d) by backbone, pooling, linear projection, activation (as in MoRec and NineRec).

use super::pixels::COST;
use super::{Backbone, ImageFolder, Images, Pixels};
use crate::config::{ImageConfig, ImagePooling, Modality, ProjectionActivation};
use crate::error::{Error, Result};
use crate::item::hidden_adapter::{self, HiddenStateAdapter};
use crate::item::table::{scatter_rows, scatter_segments, zero_row};
use crate::item::{Features, FrozenDepth, ItemEncoder, ItemTable, compute_rows};
use crate::nn::host::to_vec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Action, Linear, Origin, Params, Pass, Scope, Segments, Weight};
use crate::picture::Augment;
use candle_core::Device;
use std::sync::Arc;

/// A backbone with its pooling; this is the part that can be frozen as a whole.
struct Tower {
    backbone: Box<dyn Backbone>,
    pooling: Pooling,
}

impl Tower {
    fn new(scope: &Scope, folder: &ImageFolder, c: &ImageConfig) -> Result<Self> {
        let backbone = folder.backbone(scope, c)?;
        let pooling = match c.pooling {
            ImagePooling::Auto if backbone.has_class() => Pooling::Cls,
            ImagePooling::Cls if backbone.has_class() => Pooling::Cls,
            ImagePooling::Cls => {
                return Err(Error::config("item.image.pooling", "this encoder has no class token; use mean or auto"));
            }
            _ => Pooling::Mean,
        };
        Ok(Self { backbone, pooling })
    }
    /// Depth to which the backbone is frozen, or `None` if nothing is.
    fn frozen(&self) -> Option<FrozenDepth> {
        let b = &self.backbone;
        let below = if b.trains(None) { 0 } else { (0..b.blocks()).take_while(|&i| !b.trains(Some(i))).count() };
        match below {
            n if n == b.blocks() && !b.head_trains() => Some(FrozenDepth::Pooled),
            0 => None,
            n => Some(FrozenDepth::Blocks(n)),
        }
    }
    /// Runs the blocks from `from` up to `to`; with `to` = `None` runs all remaining blocks and the head → (n, width).
    fn run(&self, x: Act, n: usize, from: usize, to: Option<usize>, pass: &Pass) -> Result<Act> {
        self.run_with_hook(x, n, from, to, pass, &mut |_, _| Ok(()))
    }
    /// As [`run`](Self::run); `hook` is called with the index and the input of each block.
    fn run_with_hook(
        &self,
        x: Act,
        n: usize,
        from: usize,
        to: Option<usize>,
        pass: &Pass,
        hook: &mut dyn FnMut(usize, &Act) -> Result<()>,
    ) -> Result<Act> {
        let b = &self.backbone;
        let eval = Pass::eval();
        let mut x = x;
        let mut live = b.trains(None) || (0..from).any(|i| b.trains(Some(i)));
        for i in from..to.unwrap_or(b.blocks()) {
            hook(i, &x)?;
            live |= b.trains(Some(i));
            let last = to.is_none() && i + 1 == b.blocks() && self.pooling == Pooling::Cls;
            x = b.block(i, &x, n, if live { pass } else { &eval }, last)?;
        }
        match to {
            Some(_) => Ok(x),
            None => b.head(&x, n, self.pooling, if live || b.head_trains() { pass } else { &eval }),
        }
    }
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act> {
        let eval = Pass::eval();
        self.backbone.embed(images, if self.backbone.trains(None) { pass } else { &eval })
    }
    fn pooled(&self, images: &Images, pass: &Pass) -> Result<Act> {
        self.run(self.embed(images, pass)?, images.count(), 0, None, pass)
    }
}

/// Encoder of items as images → (n, d).
pub struct ImageEncoder {
    tower: Tower,
    projection: Linear,
    /// Learned vector for items without an image.
    missing: Weight,
    activation: Option<Activation>,
    augment: Augment,
    hidden_adapter: HiddenStateAdapter,
}

impl ImageEncoder {
    /// Declares `model.*` (the backbone, under its Hugging Face names), `projection.{weight,bias}` and `missing`.
    pub fn new(
        scope: &Scope,
        folder: &ImageFolder,
        c: &ImageConfig,
        activation: ProjectionActivation,
        dim: usize,
    ) -> Result<Self> {
        let tower = Tower::new(&scope.pp("model").encoder(), folder, c)?;
        let (b, width) = (&tower.backbone, tower.backbone.width());
        hidden_adapter::check_adapter_layers(scope, b.blocks())?;
        let hidden_adapter = HiddenStateAdapter::new(scope, b.blocks(), width, dim)?;
        if let Some(at) = hidden_adapter.taps().iter().find(|&&i| b.shape_after(i).1 != width) {
            let m = format!(
                "after {at} blocks this image encoder is not {width} wide; its hidden states have no one width"
            );
            return Err(Error::config("adapter.method", m));
        }
        Ok(Self {
            hidden_adapter,
            projection: Linear::new(&scope.pp("projection"), tower.backbone.width(), dim, true, Init::XavierNormal)?,
            missing: scope.weight("missing", &[dim], Init::Zeros)?,
            tower,
            activation: activation.kernel(),
            augment: c.augment,
        })
    }
    fn pixels<'a>(&self, features: &'a Features) -> Result<&'a Pixels> {
        features.pixels().ok_or_else(|| {
            Error::config("item.kind", "an image model needs the items' pictures, which were not prepared")
        })
    }
    fn device(&self) -> Device {
        self.projection.weight.value().device().clone()
    }
    /// Cached rows of the frozen layers, or the embedded images; with the depth up to which the encoder is thereby
    /// computed.
    fn start(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<(Act, FrozenDepth)> {
        if let Some(cache) = features.frozen.get(&Modality::Image) {
            return Ok((cache.rows(present, &self.device())?.0, cache.depth()));
        }
        let images = Images::of(self.pixels(features)?, present, self.augment, pass)?;
        Ok((self.tower.embed(&images, pass)?, FrozenDepth::Blocks(0)))
    }
    /// Projected rows of the last block (rows, d), packed by item; an item without an image has one row, the learned
    /// vector.
    pub(in crate::item) fn project_rows(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (b, f) = (&self.tower.backbone, items.features);
        let (present, position) = items.partition(|i| f.has(Modality::Image, i));
        let n = present.len();
        let rows = if n == 0 {
            zero_row(self.dim(), &self.device())?
        } else {
            let x = if let HiddenStateAdapter::KAdapter(_) = &self.hidden_adapter {
                self.k_adapted(&present, f, pass)?
            } else {
                let (x, depth) = self.start(&present, f, pass)?;
                let FrozenDepth::Blocks(from) = depth else {
                    return Err(Error::Numeric("co-attention over pooled pictures".into()));
                };
                self.tower.run(x, n, from, Some(b.blocks()), pass)?
            };
            ops::linear(pass, &b.rows(&x, n, pass)?, &self.projection)?
        };
        let per = rows.dims2()?.0.checked_div(n).unwrap_or(1);
        let (position, segments) = scatter_segments(&position, &Segments::from_lengths(std::iter::repeat_n(per, n)));
        Ok((ops::gather_or_fill(pass, &rows, Arc::new(position), Some(&self.missing))?, segments))
    }
    /// Number of blocks of the backbone.
    pub(in crate::item) fn blocks(&self) -> usize {
        self.tower.backbone.blocks()
    }
    fn pooled(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Act> {
        if let HiddenStateAdapter::KAdapter(_) = &self.hidden_adapter {
            let x = self.k_adapted(present, features, pass)?;
            return self.tower.backbone.head(&x, present.len(), self.tower.pooling, pass);
        }
        match self.start(present, features, pass)? {
            (rows, FrozenDepth::Pooled) => Ok(rows),
            (x, FrozenDepth::Blocks(from)) => self.tower.run(x, present.len(), from, None, pass),
            (_, depth) => Err(Error::Numeric(format!("{depth:?} is kept of the pictures, which nothing asks for"))),
        }
    }
    /// Output of the last block with the K-Adapter's output added.
    fn k_adapted(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Act> {
        let HiddenStateAdapter::KAdapter(k) = &self.hidden_adapter else {
            return Err(Error::Numeric("no external adapter".into()));
        };
        let h = self.hidden_states(present, features, pass)?;
        let per = h[0].dims2()?.0 / present.len().max(1);
        k.forward(pass, &h, &Segments::from_lengths(std::iter::repeat_n(per, present.len())))
    }
    /// Hidden states at the taps and the last one: one row per token or pixel, or one pooled row per image with a side
    /// tower.
    fn hidden_states(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Vec<Act>> {
        let taps = self.hidden_adapter.taps();
        if let Some(cache) = features.frozen.get(&Modality::Image) {
            return hidden_adapter::split_columns(pass, &cache.rows(present, &self.device())?.0, taps.len() + 1);
        }
        let (n, t) = (present.len(), &self.tower);
        let images = Images::of(self.pixels(features)?, present, self.augment, pass)?;
        let side = matches!(self.hidden_adapter, HiddenStateAdapter::SideTower(_));
        let mut h = vec![];
        let to = if side { None } else { Some(t.backbone.blocks()) };
        let last = t.run_with_hook(t.embed(&images, pass)?, n, 0, to, pass, &mut |i, x| {
            if taps.contains(&i) {
                h.push(if side {
                    let per = x.dims2()?.0 / n.max(1);
                    ops::pool(pass, x, &Segments::from_lengths(std::iter::repeat_n(per, n)), t.pooling)?
                } else {
                    x.clone()
                });
            }
            Ok(())
        })?;
        h.push(last);
        Ok(h)
    }
    /// Item vectors and, with a side tower, the pooled hidden states that it reads; these are zero for items without an
    /// image.
    pub(in crate::item) fn encode_with_taps(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Vec<Act>)> {
        let f = items.features;
        let (present, position) = items.partition(|i| f.has(Modality::Image, i));
        let (rows, h) = if present.is_empty() {
            let none = |d: usize| zero_row(d, &self.device());
            let (n, width) = self.tap_shape();
            let h = if let HiddenStateAdapter::SideTower(_) = self.hidden_adapter {
                (0..n).map(|_| none(width)).collect::<Result<_>>()?
            } else {
                vec![]
            };
            (none(self.dim())?, h)
        } else {
            let (pooled, side, h) = match &self.hidden_adapter {
                HiddenStateAdapter::SideTower(side) => {
                    let h = self.hidden_states(&present, f, pass)?;
                    (h[h.len() - 1].clone(), Some(side.forward(pass, &h)?), h)
                }
                _ => (self.pooled(&present, f, pass)?, None, vec![]),
            };
            let mut y = ops::linear(pass, &pooled, &self.projection)?;
            if let Some(side) = side {
                y = ops::add(pass, &y, &side, 0.0)?;
            }
            let y = match self.activation {
                Some(f) => ops::activation(pass, &y, f)?,
                None => y,
            };
            (y, h)
        };
        let h = h.iter().map(|h| scatter_rows(pass, h, &position)).collect::<Result<_>>()?;
        Ok((ops::gather_or_fill(pass, &rows, Arc::new(position), Some(&self.missing))?, h))
    }
    /// Number of hidden states that a side tower reads, and the width of each.
    pub(in crate::item) fn tap_shape(&self) -> (usize, usize) {
        (self.hidden_adapter.taps().len() + 1, self.tower.backbone.width())
    }
}

impl ItemEncoder for ImageEncoder {
    fn dim(&self) -> usize {
        self.projection.outputs()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        Ok(self.encode_with_taps(items, pass)?.0)
    }
    fn frozen_depths(&self) -> Vec<(Modality, FrozenDepth)> {
        // Augmented images differ in every step, so their encodings cannot be cached.
        let depth = if self.augment == Augment::None { self.tower.frozen() } else { None };
        let depth = match (&self.hidden_adapter, depth) {
            (HiddenStateAdapter::None, depth) => depth,
            (HiddenStateAdapter::SideTower(_), Some(FrozenDepth::Pooled)) => {
                Some(FrozenDepth::SideTower(self.hidden_adapter.schedule()))
            }
            (HiddenStateAdapter::KAdapter(_), Some(FrozenDepth::Pooled)) => {
                Some(FrozenDepth::KAdapter(self.hidden_adapter.schedule()))
            }
            _ => None,
        };
        depth.into_iter().map(|d| (Modality::Image, d)).collect()
    }
    fn frozen_output(&self, items: &ItemTable, _: Modality, depth: FrozenDepth) -> Result<Vec<f32>> {
        let (present, _) = items.partition(|i| items.features.has(Modality::Image, i));
        if present.is_empty() {
            return Ok(vec![]);
        }
        let (pass, n) = (Pass::eval(), present.len());
        if let FrozenDepth::SideTower(_) | FrozenDepth::KAdapter(_) = depth {
            let h = self.hidden_states(&present, items.features, &pass)?;
            return to_vec(ops::concat_columns(&pass, &h.iter().collect::<Vec<_>>())?.value());
        }
        let images = Images::of(self.pixels(items.features)?, &present, Augment::None, &pass)?;
        let to = if let FrozenDepth::Blocks(k) = depth { Some(k) } else { None };
        to_vec(self.tower.run(self.tower.embed(&images, &pass)?, n, 0, to, &pass)?.value())
    }
    fn frozen_width(&self, _: Modality, depth: FrozenDepth) -> usize {
        let (hidden_states, width) = self.tap_shape();
        match depth {
            FrozenDepth::Pooled => width,
            FrozenDepth::Blocks(k) => self.tower.backbone.shape_after(k).1,
            FrozenDepth::SideTower(_) | FrozenDepth::KAdapter(_) => hidden_states * width,
        }
    }
    fn frozen_rows(&self, _: Modality, features: &Features, depth: FrozenDepth, item: usize) -> usize {
        match (features.has(Modality::Image, item), depth) {
            (false, _) => 0,
            (true, FrozenDepth::Pooled | FrozenDepth::SideTower(_)) => 1,
            (true, FrozenDepth::Blocks(k)) => self.tower.backbone.shape_after(k).0,
            (true, FrozenDepth::KAdapter(_)) => self.tower.backbone.shape_after(self.tower.backbone.blocks()).0,
        }
    }
}

/// A frozen vision encoder without projection: images → pooled vectors.
pub struct FrozenImageEncoder {
    tower: Tower,
    device: Device,
}

impl FrozenImageEncoder {
    /// Loads the encoder from a folder that was opened with its weights.
    pub fn new(folder: &ImageFolder, c: &ImageConfig) -> Result<Self> {
        Self::on(&Device::Cpu, folder, c)
    }
    /// As [`FrozenImageEncoder::new`], to compute on a device.
    pub fn on(device: &Device, folder: &ImageFolder, c: &ImageConfig) -> Result<Self> {
        let action = Action { origin: Origin::Pretrained, train: false, lr: None };
        let specs = Params::declare(|s| Tower::new(s, folder, c))?;
        let actions = specs.into_iter().map(|s| (s.name, action)).collect();
        let (_, tower) = Params::build(0, device, &actions, None, |s| Tower::new(s, folder, c))?;
        Ok(Self { tower, device: device.clone() })
    }
    /// Dimension of the pooled vectors.
    pub fn width(&self) -> usize {
        self.tower.backbone.width()
    }
    /// Pooled vectors of some images, encoded as one batch, row by row.
    pub fn encode_batch(&self, images: &Images) -> Result<Vec<f32>> {
        to_vec(self.tower.pooled(images, &Pass::eval())?.value())
    }
    /// Pooled vectors of all items (items, width), row by row; zeros where an item has no image. `on_progress(done,
    /// all)` is called after each batch.
    pub fn encode(&self, pixels: &Pixels, count: usize, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        let width = self.width();
        let one = |batch: &[u32]| {
            let present: Vec<u32> = batch.iter().copied().filter(|&i| pixels.has(i as usize)).collect();
            let mut out = vec![0f32; batch.len() * width];
            if !present.is_empty() {
                let rows = self.encode_batch(&Images::of(pixels, &present, Augment::None, &Pass::eval())?)?;
                let mut rows = rows.chunks_exact(width);
                for (out, &i) in out.chunks_exact_mut(width).zip(batch) {
                    if let Some(row) = pixels.has(i as usize).then(|| rows.next()).flatten() {
                        out.copy_from_slice(row);
                    }
                }
            }
            Ok(out)
        };
        compute_rows(count, width, |_| COST, &self.device, one, on_progress)
    }
}
