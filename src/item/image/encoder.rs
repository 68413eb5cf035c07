//! Pictures → (n, d): backbone, pooling, Linear, activation (MoRec's and NineRec's image encoder).

use super::{Backbone, ImageFolder, Images, Pixels};
use crate::config::{ImageConfig, ImagePooling, Squash};
use crate::error::{Error, Result};
use crate::item::aside::{self, Aside};
use crate::item::{Depth, Features, ItemEncoder, ItemTable, Modality, features, nothing, spread, spread_rows};
use crate::nn::host::to_vec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Action, Linear, Origin, Params, Pass, Scope, Segments, Weight};
use crate::picture::Augment;
use candle_core::Device;
use std::sync::Arc;

/// Cost of a picture when batches are made, in tokens.
pub const COST: usize = 256;

/// A backbone with its pooling: the part that a frozen encoder consists of.
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
    /// Blocks that are frozen, with all below them; `None` where nothing is.
    fn frozen(&self) -> Option<Depth> {
        let b = &self.backbone;
        let below = if b.trains(None) { 0 } else { (0..b.blocks()).take_while(|&i| !b.trains(Some(i))).count() };
        match below {
            n if n == b.blocks() && !b.head_trains() => Some(Depth::Pooled),
            0 => None,
            n => Some(Depth::Blocks(n)),
        }
    }
    /// What comes out of the first blocks, up to `to`, → (n, width) if `to` is none.
    fn run(&self, x: Act, n: usize, from: usize, to: Option<usize>, pass: &Pass) -> Result<Act> {
        self.run_seen(x, n, from, to, pass, &mut |_, _| Ok(()))
    }
    /// The same; `see` is shown what goes into each block.
    fn run_seen(
        &self,
        x: Act,
        n: usize,
        from: usize,
        to: Option<usize>,
        pass: &Pass,
        see: &mut dyn FnMut(usize, &Act) -> Result<()>,
    ) -> Result<Act> {
        let b = &self.backbone;
        let eval = Pass::eval();
        let mut x = x;
        let mut live = b.trains(None) || (0..from).any(|i| b.trains(Some(i)));
        for i in from..to.unwrap_or(b.blocks()) {
            see(i, &x)?;
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

/// Image → (n, d).
pub struct ImageEncoder {
    tower: Tower,
    projection: Linear,
    /// Stands for items without a picture.
    missing: Weight,
    squash: Option<Activation>,
    augment: Augment,
    aside: Aside,
}

impl ImageEncoder {
    /// Parameters `model.*` (the backbone, under its Hugging Face names), `projection.{weight,bias}` and `missing`.
    pub fn new(scope: &Scope, folder: &ImageFolder, c: &ImageConfig, squash: Squash, dim: usize) -> Result<Self> {
        let tower = Tower::new(&scope.pp("model").encoder(), folder, c)?;
        let (b, width) = (&tower.backbone, tower.backbone.width());
        aside::within(scope, b.blocks())?;
        let aside = Aside::new(scope, b.blocks(), width, dim)?;
        if let Some(at) = aside.taps().iter().find(|&&i| b.shape_after(i).1 != width) {
            let m = format!(
                "after {at} blocks this image encoder is not {width} wide; its hidden states have no one width"
            );
            return Err(Error::config("adapter.method", m));
        }
        Ok(Self {
            aside,
            projection: Linear::new(&scope.pp("projection"), tower.backbone.width(), dim, true, Init::XavierNormal)?,
            missing: scope.weight("missing", &[dim], Init::Zeros)?,
            tower,
            squash: squash.kernel(),
            augment: c.augment,
        })
    }
    fn pixels<'a>(&self, features: &'a Features) -> Result<&'a Pixels> {
        features.pixels.as_ref().ok_or_else(|| {
            Error::config("item.kind", "an image model needs the items' pictures, which were not prepared")
        })
    }
    fn device(&self) -> Device {
        self.projection.weight.value().device().clone()
    }
    /// What goes into a block, and which: what is kept of frozen layers, or the embedded pictures.
    fn start(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<(Act, Depth)> {
        if let Some(prefix) = &features.image_prefix {
            return Ok((prefix.rows(present, &self.device())?.0, prefix.depth()));
        }
        let images = Images::of(self.pixels(features)?, present, self.augment, pass)?;
        Ok((self.tower.embed(&images, pass)?, Depth::Blocks(0)))
    }
    /// (rows, d), the projection of what the last block says of each piece of a picture, and how they are packed; an item
    /// without a picture has one row, the learned one.
    pub(in crate::item) fn projected(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (b, f) = (&self.tower.backbone, items.features);
        let (present, place) = items.pick(|i| f.has_image(i));
        let n = present.len();
        let rows = if n == 0 {
            nothing(self.dim(), &self.device())?
        } else {
            let x = if let Aside::Knowledge(_) = &self.aside {
                self.known(&present, f, pass)?
            } else {
                let (x, depth) = self.start(&present, f, pass)?;
                let Depth::Blocks(from) = depth else {
                    return Err(Error::Numeric("co-attention over pooled pictures".into()));
                };
                self.tower.run(x, n, from, Some(b.blocks()), pass)?
            };
            ops::linear(pass, &b.rows(&x, n, pass)?, &self.projection)?
        };
        let per = rows.dims2()?.0.checked_div(n).unwrap_or(1);
        let (place, segments) = spread(&place, &Segments::from_lengths(std::iter::repeat_n(per, n)));
        Ok((ops::gather_or(pass, &rows, Arc::new(place), Some(&self.missing))?, segments))
    }
    /// Blocks of the backbone.
    pub(in crate::item) fn blocks(&self) -> usize {
        self.tower.backbone.blocks()
    }
    fn pooled(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Act> {
        if let Aside::Knowledge(_) = &self.aside {
            let x = self.known(present, features, pass)?;
            return self.tower.backbone.head(&x, present.len(), self.tower.pooling, pass);
        }
        match self.start(present, features, pass)? {
            (rows, Depth::Pooled) => Ok(rows),
            (x, Depth::Blocks(from)) => self.tower.run(x, present.len(), from, None, pass),
            (_, depth) => Err(Error::Numeric(format!("{depth:?} is kept of the pictures, which nothing asks for"))),
        }
    }
    /// What comes out of the last block with what an external adapter adds to it.
    fn known(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Act> {
        let Aside::Knowledge(k) = &self.aside else {
            return Err(Error::Numeric("no external adapter".into()));
        };
        let h = self.heights(present, features, pass)?;
        let per = h[0].dims2()?.0 / present.len().max(1);
        k.run(pass, &h, &Segments::from_lengths(std::iter::repeat_n(per, present.len())))
    }
    /// What the encoder says on its way, the end included: of every row, or of every picture where pooled.
    fn heights(&self, present: &[u32], features: &Features, pass: &Pass) -> Result<Vec<Act>> {
        let taps = self.aside.taps();
        if let Some(prefix) = &features.image_prefix {
            return aside::split(pass, &prefix.rows(present, &self.device())?.0, taps.len() + 1);
        }
        let (n, t) = (present.len(), &self.tower);
        let images = Images::of(self.pixels(features)?, present, self.augment, pass)?;
        let side = matches!(self.aside, Aside::Side(_));
        let mut h = vec![];
        let to = if side { None } else { Some(t.backbone.blocks()) };
        let last = t.run_seen(t.embed(&images, pass)?, n, 0, to, pass, &mut |i, x| {
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
    /// The items' vectors; and what the encoder says on its way, where a side tower listens: zeros for items without a picture.
    pub(in crate::item) fn encode_high(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Vec<Act>)> {
        let f = items.features;
        let (present, place) = items.pick(|i| f.has_image(i));
        let (rows, h) = if present.is_empty() {
            let none = |d: usize| nothing(d, &self.device());
            let (n, width) = self.listened();
            let h = if let Aside::Side(_) = self.aside {
                (0..n).map(|_| none(width)).collect::<Result<_>>()?
            } else {
                vec![]
            };
            (none(self.dim())?, h)
        } else {
            let (pooled, side, h) = match &self.aside {
                Aside::Side(side) => {
                    let h = self.heights(&present, f, pass)?;
                    (h[h.len() - 1].clone(), Some(side.run(pass, &h)?), h)
                }
                _ => (self.pooled(&present, f, pass)?, None, vec![]),
            };
            let mut y = ops::linear(pass, &pooled, &self.projection)?;
            if let Some(side) = side {
                y = ops::add(pass, &y, &side, 0.0)?;
            }
            let y = match self.squash {
                Some(f) => ops::activation(pass, &y, f)?,
                None => y,
            };
            (y, h)
        };
        let h = h.iter().map(|h| spread_rows(pass, h, &place)).collect::<Result<_>>()?;
        Ok((ops::gather_or(pass, &rows, Arc::new(place), Some(&self.missing))?, h))
    }
    /// How many heights a side tower reads, and the width of each.
    pub(in crate::item) fn listened(&self) -> (usize, usize) {
        (self.aside.taps().len() + 1, self.tower.backbone.width())
    }
}

impl ItemEncoder for ImageEncoder {
    fn dim(&self) -> usize {
        self.projection.outputs()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        Ok(self.encode_high(items, pass)?.0)
    }
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        // Pictures that change each time cannot be kept.
        let depth = if self.augment == Augment::None { self.tower.frozen() } else { None };
        let depth = match (&self.aside, depth) {
            (Aside::None, depth) => depth,
            (Aside::Side(_), Some(Depth::Pooled)) => Some(Depth::Side(self.aside.heights())),
            (Aside::Knowledge(_), Some(Depth::Pooled)) => Some(Depth::Knowledge(self.aside.heights())),
            _ => None,
        };
        depth.into_iter().map(|d| (Modality::Image, d)).collect()
    }
    fn prefix(&self, items: &ItemTable, _: Modality, depth: Depth) -> Result<Vec<f32>> {
        let (present, _) = items.pick(|i| items.features.has_image(i));
        if present.is_empty() {
            return Ok(vec![]);
        }
        let (pass, n) = (Pass::eval(), present.len());
        if let Depth::Side(_) | Depth::Knowledge(_) = depth {
            let h = self.heights(&present, items.features, &pass)?;
            return to_vec(ops::columns(&pass, &h.iter().collect::<Vec<_>>())?.value());
        }
        let images = Images::of(self.pixels(items.features)?, &present, Augment::None, &pass)?;
        let to = if let Depth::Blocks(k) = depth { Some(k) } else { None };
        to_vec(self.tower.run(self.tower.embed(&images, &pass)?, n, 0, to, &pass)?.value())
    }
    fn prefix_width(&self, _: Modality, depth: Depth) -> usize {
        let (heights, width) = self.listened();
        match depth {
            Depth::Pooled => width,
            Depth::Blocks(k) => self.tower.backbone.shape_after(k).1,
            Depth::Side(_) | Depth::Knowledge(_) => heights * width,
        }
    }
    fn prefix_rows(&self, _: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        match (features.has_image(item), depth) {
            (false, _) => 0,
            (true, Depth::Pooled | Depth::Side(_)) => 1,
            (true, Depth::Blocks(k)) => self.tower.backbone.shape_after(k).0,
            (true, Depth::Knowledge(_)) => self.tower.backbone.shape_after(self.tower.backbone.blocks()).0,
        }
    }
}

/// A frozen vision encoder on its own: pictures → pooled vectors.
pub struct PictureEncoder {
    tower: Tower,
}

impl PictureEncoder {
    /// Loads a folder that was opened with its weights.
    pub fn new(folder: &ImageFolder, c: &ImageConfig) -> Result<Self> {
        let action = Action { origin: Origin::Pretrained, train: false, lr: None };
        let specs = Params::declare(|s| Tower::new(s, folder, c))?;
        let actions = specs.into_iter().map(|s| (s.name, action)).collect();
        let (_, tower) = Params::build(0, &Device::Cpu, &actions, None, |s| Tower::new(s, folder, c))?;
        Ok(Self { tower })
    }
    /// Width of its vectors.
    pub fn width(&self) -> usize {
        self.tower.backbone.width()
    }
    /// Vectors of some pictures, as one batch.
    pub fn some(&self, images: &Images) -> Result<Vec<f32>> {
        to_vec(self.tower.pooled(images, &Pass::eval())?.value())
    }
    /// (items, width), row by row, zeros where an item has no picture; `watch(done, all)` is told after each batch.
    pub fn encode(&self, pixels: &Pixels, count: usize, watch: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        let width = self.width();
        let one = |batch: &[u32]| {
            let present: Vec<u32> = batch.iter().copied().filter(|&i| pixels.has(i as usize)).collect();
            let mut out = vec![0f32; batch.len() * width];
            if !present.is_empty() {
                let rows = self.some(&Images::of(pixels, &present, Augment::None, &Pass::eval())?)?;
                let mut rows = rows.chunks_exact(width);
                for (out, &i) in out.chunks_exact_mut(width).zip(batch) {
                    if let Some(row) = pixels.has(i as usize).then(|| rows.next()).flatten() {
                        out.copy_from_slice(row);
                    }
                }
            }
            Ok(out)
        };
        features::rows(count, width, |_| COST, &Device::Cpu, one, watch)
    }
}
