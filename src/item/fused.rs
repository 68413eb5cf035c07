//! Encoders of items that have text and images, or one of the two (NineRec's fusions; TransRec's mixture of modality).
//!
//! A missing modality is replaced by a learned vector, so that every fusion is defined for every item. In a mixture
//! each item is encoded by one encoder only, and the rows are then reordered by item.

use super::encoder::ItemEncoder;
use super::features::Features;
use super::frozen_cache::FrozenDepth;
use super::image::{ImageEncoder, ImageFolder};
use super::side_tower::InterTower;
use super::table::{ItemTable, scatter_rows, scatter_segments, zero_row};
use super::text::{TextEncoder, TextFolder};
use crate::config::{Fusion, ItemConfig, Modality};
use crate::error::{Error, Result};
use crate::nn::adapter::Method;
use crate::nn::init::Init;
use crate::nn::ops::{self, MASKED, Pooling};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Segments, Weight};
use candle_core::Device;
use std::sync::Arc;

/// Fuses the text vector and the image vector of an item, each of width d.
enum FusionLayer {
    Sum,
    /// Concatenation, followed by a linear map with weight (d, 2d).
    Concat(Linear),
    /// Gate: a linear map of the text and one of the image, each with weight (d, d).
    Gated(Linear, Linear),
    /// Co-attention between tokens and image patches; both results are pooled and concatenated, followed by a linear
    /// map with weight (d, 2d).
    CoAttention(Box<CoAttention>),
    /// Mixture: the vector of one of the two modalities.
    Mixture,
}

/// Cross-attention in both directions, and the final linear map with weight (d, 2d).
struct CoAttention {
    text: CrossAttention,
    image: CrossAttention,
    line: Linear,
}

/// Cross-attention in one direction: norm(x + O·attention(x, other)) (Lu et al. 2019).
struct CrossAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    norm: LayerNorm,
}

/// Number of attention heads, if it divides the width.
const HEADS: usize = 4;

impl CrossAttention {
    fn new(scope: &Scope, d: usize) -> Result<Self> {
        let line = |name: &str| Linear::new(&scope.pp(name), d, d, true, Init::XavierNormal);
        Ok(Self {
            query: line("query")?,
            key: line("key")?,
            value: line("value")?,
            out: line("out")?,
            norm: LayerNorm::new(&scope.pp("norm"), d, 1e-6)?,
        })
    }
    /// Rows after cross-attention, pooled to one row per sequence.
    fn run(
        &self,
        pass: &Pass,
        (x, query_segments): (&Act, &Segments),
        (other, key_segments): (&Act, &Segments),
    ) -> Result<Act> {
        let q = ops::linear(pass, x, &self.query)?;
        let kv = ops::linears(pass, other, &[&self.key, &self.value])?;
        let heads = if x.dims2()?.1.is_multiple_of(HEADS) { HEADS } else { 1 };
        let a =
            ops::linear(pass, &ops::cross_attention(pass, &q, &kv, query_segments, key_segments, heads)?, &self.out)?;
        ops::pool(pass, &ops::add_norm(pass, &a, Some(x), &self.norm, 0.0)?, query_segments, Pooling::Mean)
    }
}

/// Encoder of items with text and image → (n, d).
pub struct FusedEncoder {
    text: TextEncoder,
    image: ImageEncoder,
    /// Learned vector for a missing text; a mixture has none.
    missing: Option<Weight>,
    join: FusionLayer,
    /// Side tower over the hidden states of both encoders.
    inter_tower: Option<InterTower>,
    device: Device,
}

impl FusedEncoder {
    /// Declares `text.*`, `image.*`, `missing_text`, and the fusion's parameters below `fusion`.
    pub fn new(scope: &Scope, text: &TextFolder, image: &ImageFolder, c: &ItemConfig, dim: usize) -> Result<Self> {
        let at = scope.pp("fusion");
        let line = |name: &str, i: usize| Linear::new(&at.pp(name), i, dim, true, Init::XavierNormal);
        let join = match c.fusion {
            Fusion::Sum => FusionLayer::Sum,
            Fusion::Concat => FusionLayer::Concat(line("linear", 2 * dim)?),
            Fusion::Gated => FusionLayer::Gated(line("text", dim)?, line("image", dim)?),
            Fusion::Mixture => FusionLayer::Mixture,
            Fusion::CoAttention => FusionLayer::CoAttention(Box::new(CoAttention {
                text: CrossAttention::new(&at.pp("text"), dim)?,
                image: CrossAttention::new(&at.pp("image"), dim)?,
                line: line("linear", 2 * dim)?,
            })),
        };
        let text = TextEncoder::new(&scope.pp("text"), text, c, dim)?;
        let image = ImageEncoder::new(&scope.pp("image"), image, &c.image, c.activation, dim)?;
        if c.fusion == Fusion::CoAttention && scope.adapter().is_some_and(|a| a.method == Method::Side) {
            let m = "side towers have no place in a co-attention, which reads tokens; use another item.fusion";
            return Err(Error::config("adapter.method", m));
        }
        // In a mixture an item has hidden states of one encoder only, so they cannot be paired.
        let paired = c.fusion != Fusion::Mixture;
        let tap_shape = (text.tap_shape(), image.tap_shape());
        Ok(Self {
            device: scope.device(),
            inter_tower: match paired {
                true => InterTower::new(&scope.pp("between"), tap_shape.0, tap_shape.1, dim)?,
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
    /// Projected tokens of each item, packed; an item without text has one row, the learned vector.
    fn tokens(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (present, position) = items.partition(|i| items.features.has(Modality::Text, i));
        let (rows, packed) = match present.is_empty() {
            true => (zero_row(self.dim(), &self.device)?, Segments::from_lengths([])),
            false => self.text.project_rows(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        let (position, segments) = scatter_segments(&position, &packed);
        Ok((ops::gather_or_fill(pass, &rows, Arc::new(position), self.missing.as_ref())?, segments))
    }
    /// Encodes the items for which `wanted` returns true; also returns the row of each item of the table, [`MASKED`]
    /// for the others.
    fn encode_batch(
        &self,
        encoder: &dyn ItemEncoder,
        items: &ItemTable,
        wanted: impl Fn(usize) -> bool,
        pass: &Pass,
    ) -> Result<(Act, Vec<u32>)> {
        let (present, position) = items.partition(wanted);
        let rows = match present.is_empty() {
            true => zero_row(self.dim(), &self.device)?,
            false => encoder.encode(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        Ok((rows, position))
    }
    /// Text vectors and image vectors of the items, one row per item, and the output of the inter-tower, if there is
    /// one.
    fn pair(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Act, Option<Act>)> {
        let (present, position) = items.partition(|i| items.features.has(Modality::Text, i));
        let (text, high) = match present.is_empty() {
            true => (zero_row(self.dim(), &self.device)?, vec![]),
            false => self.text.encode_with_taps(&ItemTable { ids: &present, features: items.features }, pass)?,
        };
        let (image, seen) = self.image.encode_with_taps(items, pass)?;
        let more = match &self.inter_tower {
            None => None,
            Some(inter_tower) => {
                let (n, d) = self.text.tap_shape();
                let text_states = match high.is_empty() {
                    true => (0..n).map(|_| zero_row(d, &self.device)).collect::<Result<_>>()?,
                    false => high,
                };
                let text_states: Vec<Act> =
                    text_states.iter().map(|h| scatter_rows(pass, h, &position)).collect::<Result<_>>()?;
                Some(inter_tower.forward(pass, &text_states, &seen)?)
            }
        };
        let text = ops::gather_or_fill(pass, &text, Arc::new(position), self.missing.as_ref())?;
        Ok((text, image, more))
    }
    /// Vector of each item's text, or of its image if it has no text, or the learned vector if it has neither.
    fn mixed(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let f = items.features;
        let (text, position) = self.encode_batch(&self.text, items, |i| f.has(Modality::Text, i), pass)?;
        let (image, other) = self.encode_batch(&self.image, items, |i| !f.has(Modality::Text, i), pass)?;
        let first = text.dims2()?.0 as u32;
        let at = position.iter().zip(&other).map(|(&t, &i)| if t == MASKED { first + i } else { t });
        ops::gather(pass, &ops::concat_rows(pass, &text, &image)?, Arc::new(at.collect()))
    }
}

impl ItemEncoder for FusedEncoder {
    fn dim(&self) -> usize {
        self.text.dim()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        match &self.join {
            FusionLayer::Mixture => self.mixed(items, pass),
            FusionLayer::Sum | FusionLayer::Concat(_) | FusionLayer::Gated(..) => {
                let (text, image, more) = self.pair(items, pass)?;
                let y = match &self.join {
                    FusionLayer::Concat(line) => {
                        ops::linear(pass, &ops::concat_columns(pass, &[&text, &image])?, line)?
                    }
                    FusionLayer::Gated(a, b) => {
                        ops::sigmoid_gate(pass, &ops::linear(pass, &text, a)?, &ops::linear(pass, &image, b)?)?
                    }
                    _ => ops::add(pass, &text, &image, 0.0)?,
                };
                more.map_or(Ok(y.clone()), |m| ops::add(pass, &y, &m, 0.0))
            }
            FusionLayer::CoAttention(co) => {
                let CoAttention { text, image, line } = co.as_ref();
                let (t, ts) = self.tokens(items, pass)?;
                let (v, vs) = self.image.project_rows(items, pass)?;
                let (a, b) = (text.run(pass, (&t, &ts), (&v, &vs))?, image.run(pass, (&v, &vs), (&t, &ts))?);
                ops::linear(pass, &ops::concat_columns(pass, &[&a, &b])?, line)
            }
        }
    }
    fn frozen_depths(&self) -> Vec<(Modality, FrozenDepth)> {
        let mut all = [self.text.frozen_depths(), self.image.frozen_depths()].concat();
        if let FusionLayer::CoAttention(_) = self.join {
            // Co-attention needs the unpooled rows.
            for (m, depth) in all.iter_mut().filter(|(_, d)| *d == FrozenDepth::Pooled) {
                *depth =
                    FrozenDepth::Blocks(if *m == Modality::Text { self.text.blocks() } else { self.image.blocks() });
            }
        }
        all
    }
    fn frozen_output(&self, items: &ItemTable, modality: Modality, depth: FrozenDepth) -> Result<Vec<f32>> {
        match modality {
            Modality::Text => self.text.frozen_output(items, modality, depth),
            Modality::Image => self.image.frozen_output(items, modality, depth),
        }
    }
    fn frozen_width(&self, modality: Modality, depth: FrozenDepth) -> usize {
        match modality {
            Modality::Text => self.text.frozen_width(modality, depth),
            Modality::Image => self.image.frozen_width(modality, depth),
        }
    }
    fn frozen_rows(&self, modality: Modality, features: &Features, depth: FrozenDepth, item: usize) -> usize {
        match modality {
            Modality::Text => self.text.frozen_rows(modality, features, depth, item),
            Modality::Image => self.image.frozen_rows(modality, features, depth, item),
        }
    }
}
