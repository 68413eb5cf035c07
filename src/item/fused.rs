//! Items with text and picture, or one of the two (NineRec's fusions; TransRec's mixture of modality).
//!
//! A modality that an item lacks is a learned vector in the place of its encoding, so that every fusion is defined for
//! every item; in a mixture an item is encoded by one encoder only, and the rows are put together again.

use super::aside::Between;
use super::text::TextFolder;
use super::{
    Depth, Features, ImageEncoder, ItemEncoder, ItemTable, Modality, TextEncoder, nothing, spread, spread_rows,
};
use crate::config::{Fusion, ItemConfig};
use crate::error::{Error, Result};
use crate::item::image::ImageFolder;
use crate::nn::adapt::Method;
use crate::nn::init::Init;
use crate::nn::ops::{self, HIDDEN, Pooling};
use crate::nn::{Act, Linear, Norm, Pass, Scope, Segments, Weight};
use candle_core::Device;
use std::sync::Arc;

/// Joins two vectors of width d.
enum Join {
    Sum,
    /// (d, 2d).
    Concat(Linear),
    /// Of text, of picture: (d, d) each.
    Gated(Linear, Linear),
    /// Tokens look at the picture, its pieces at the tokens; both pooled, side by side, (d, 2d).
    CoAttention(Box<CoAttention>),
    /// One of the two.
    Mixture,
}

/// Both sides of a co-attention, and (d, 2d).
struct CoAttention {
    text: Look,
    image: Look,
    line: Linear,
}

/// One side of a co-attention: x + O·attention(x over the other), normed (Lu et al. 2019).
struct Look {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: Norm,
}

/// Heads of a co-attention, where the width divides by them.
const HEADS: usize = 4;

impl Look {
    fn new(scope: &Scope, d: usize) -> Result<Self> {
        let line = |name: &str| Linear::new(&scope.pp(name), d, d, true, Init::XavierNormal);
        Ok(Self {
            query: line("query")?,
            key: line("key")?,
            value: line("value")?,
            out: line("out")?,
            norm: Norm::new(&scope.pp("norm"), d, 1e-6)?,
        })
    }
    /// Rows that have looked at the others, pooled to one a sequence.
    fn run(&self, pass: &Pass, (x, asks): (&Act, &Segments), (other, told): (&Act, &Segments)) -> Result<Act> {
        let q = ops::linear(pass, x, &self.query)?;
        let kv = ops::linears(pass, other, &[&self.key, &self.value])?;
        let heads = if x.dims2()?.1.is_multiple_of(HEADS) { HEADS } else { 1 };
        let a = ops::linear(pass, &ops::cross_attention(pass, &q, &kv, asks, told, heads)?, &self.out)?;
        ops::pool(pass, &ops::add_norm(pass, &a, Some(x), &self.norm, 0.0)?, asks, Pooling::Mean)
    }
}

/// Text and picture → (n, d).
pub struct FusedEncoder {
    text: TextEncoder,
    image: ImageEncoder,
    /// Stands for a text that is not there; a mixture needs none.
    missing: Option<Weight>,
    join: Join,
    /// Over both encoders' hidden states.
    between: Option<Between>,
    device: Device,
}

impl FusedEncoder {
    /// Parameters `text.*`, `image.*`, `missing_text`, and the fusion's below `fusion`.
    pub fn new(scope: &Scope, text: &TextFolder, image: &ImageFolder, c: &ItemConfig, dim: usize) -> Result<Self> {
        let at = scope.pp("fusion");
        let line = |name: &str, i: usize| Linear::new(&at.pp(name), i, dim, true, Init::XavierNormal);
        let join = match c.fusion {
            Fusion::Sum => Join::Sum,
            Fusion::Concat => Join::Concat(line("linear", 2 * dim)?),
            Fusion::Gated => Join::Gated(line("text", dim)?, line("image", dim)?),
            Fusion::Mixture => Join::Mixture,
            Fusion::CoAttention => Join::CoAttention(Box::new(CoAttention {
                text: Look::new(&at.pp("text"), dim)?,
                image: Look::new(&at.pp("image"), dim)?,
                line: line("linear", 2 * dim)?,
            })),
        };
        let text = TextEncoder::new(&scope.pp("text"), text, c, dim)?;
        let image = ImageEncoder::new(&scope.pp("image"), image, &c.image, c.activation, dim)?;
        if c.fusion == Fusion::CoAttention && scope.adapt().is_some_and(|a| a.method == Method::Side) {
            let m = "side towers have no place in a co-attention, which reads tokens; use another item.fusion";
            return Err(Error::config("adapter.method", m));
        }
        // An item of a mixture has no pair of hidden states.
        let paired = c.fusion != Fusion::Mixture;
        let listened = (text.listened(), image.listened());
        Ok(Self {
            device: scope.device(),
            between: match paired {
                true => Between::new(&scope.pp("between"), listened.0, listened.1, dim)?,
                false => None,
            },
            text,
            image,
            missing: match c.fusion {
                Fusion::Mixture => None,
                _ => Some(scope.weight("missing_text", &[dim], Init::Zeros)?),
            },
            join,
        })
    }
    /// Projected tokens of each item, packed; the learned one where there is no text.
    fn tokens(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (present, place) = items.pick(|i| items.features.has_text(i));
        let (rows, packed) = match present.is_empty() {
            true => (nothing(self.dim(), &self.device)?, Segments::from_lengths([])),
            false => self.text.projected(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        let (place, segments) = spread(&place, &packed);
        Ok((ops::gather_or(pass, &rows, Arc::new(place), self.missing.as_ref())?, segments))
    }
    /// Vectors of the items for which `wanted`, and where each item's stands among them.
    fn some(
        &self,
        encoder: &dyn ItemEncoder,
        items: &ItemTable,
        wanted: impl Fn(usize) -> bool,
        pass: &Pass,
    ) -> Result<(Act, Vec<u32>)> {
        let (present, place) = items.pick(wanted);
        let rows = match present.is_empty() {
            true => nothing(self.dim(), &self.device)?,
            false => encoder.encode(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        Ok((rows, place))
    }
    /// Text and picture of each item, one row each; and what is added to their fusion.
    fn pair(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Act, Option<Act>)> {
        let (present, place) = items.pick(|i| items.features.has_text(i));
        let (text, high) = match present.is_empty() {
            true => (nothing(self.dim(), &self.device)?, vec![]),
            false => self.text.encode_high(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        let (image, seen) = self.image.encode_high(items, pass)?;
        let more = match &self.between {
            None => None,
            Some(between) => {
                let (n, d) = self.text.listened();
                let told = match high.is_empty() {
                    true => (0..n).map(|_| nothing(d, &self.device)).collect::<Result<_>>()?,
                    false => high,
                };
                let told: Vec<Act> = told.iter().map(|h| spread_rows(pass, h, &place)).collect::<Result<_>>()?;
                Some(between.run(pass, &told, &seen)?)
            }
        };
        let text = ops::gather_or(pass, &text, Arc::new(place), self.missing.as_ref())?;
        Ok((text, image, more))
    }
    /// Each item's text, or else its picture, or the learned vector for none.
    fn mixed(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let f = items.features;
        let (text, place) = self.some(&self.text, items, |i| f.has_text(i), pass)?;
        let (image, other) = self.some(&self.image, items, |i| !f.has_text(i), pass)?;
        let first = text.dims2()?.0 as u32;
        let at = place.iter().zip(&other).map(|(&t, &i)| if t == HIDDEN { first + i } else { t });
        ops::gather(pass, &ops::stack(pass, &text, &image)?, Arc::new(at.collect()))
    }
}

impl ItemEncoder for FusedEncoder {
    fn dim(&self) -> usize {
        self.text.dim()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        match &self.join {
            Join::Mixture => self.mixed(items, pass),
            Join::Sum | Join::Concat(_) | Join::Gated(..) => {
                let (text, image, more) = self.pair(items, pass)?;
                let y = match &self.join {
                    Join::Concat(line) => ops::linear(pass, &ops::columns(pass, &[&text, &image])?, line)?,
                    Join::Gated(a, b) => {
                        ops::gate(pass, &ops::linear(pass, &text, a)?, &ops::linear(pass, &image, b)?)?
                    }
                    _ => ops::add(pass, &text, &image, 0.0)?,
                };
                more.map_or(Ok(y.clone()), |m| ops::add(pass, &y, &m, 0.0))
            }
            Join::CoAttention(co) => {
                let CoAttention { text, image, line } = co.as_ref();
                let (t, ts) = self.tokens(items, pass)?;
                let (v, vs) = self.image.projected(items, pass)?;
                let (a, b) = (text.run(pass, (&t, &ts), (&v, &vs))?, image.run(pass, (&v, &vs), (&t, &ts))?);
                ops::linear(pass, &ops::columns(pass, &[&a, &b])?, line)
            }
        }
    }
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        let mut all = [self.text.frozen(), self.image.frozen()].concat();
        if let Join::CoAttention(_) = self.join {
            // It looks at rows, not at what they were pooled to.
            for (m, depth) in all.iter_mut().filter(|(_, d)| *d == Depth::Pooled) {
                *depth = Depth::Blocks(if *m == Modality::Text { self.text.blocks() } else { self.image.blocks() });
            }
        }
        all
    }
    fn prefix(&self, items: &ItemTable, modality: Modality, depth: Depth) -> Result<Vec<f32>> {
        match modality {
            Modality::Text => self.text.prefix(items, modality, depth),
            Modality::Image => self.image.prefix(items, modality, depth),
        }
    }
    fn prefix_width(&self, modality: Modality, depth: Depth) -> usize {
        match modality {
            Modality::Text => self.text.prefix_width(modality, depth),
            Modality::Image => self.image.prefix_width(modality, depth),
        }
    }
    fn prefix_rows(&self, modality: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        match modality {
            Modality::Text => self.text.prefix_rows(modality, features, depth, item),
            Modality::Image => self.image.prefix_rows(modality, features, depth, item),
        }
    }
}
