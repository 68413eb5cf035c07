//! Items as text: a pre-trained transformer, pooling, projection.

pub mod bert;
mod folder;
mod sentence;

pub use bert::{Bert, BertConfig};
pub use folder::TextFolder;
pub use sentence::{SentenceEncoder, backbone};

use super::aside::{self, Aside};
use super::{Depth, Features, ItemEncoder, ItemTable, Modality, Tokens};
use crate::config::ItemConfig;
use crate::error::{Error, Result};
use crate::nn::host::to_vec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Linear, Pass, Scope, Segments};
use candle_core::Device;

/// Text → (n, d): backbone, pooling, Linear, activation (MoRec's text encoder; NineRec's with pooling = cls).
pub struct TextEncoder {
    backbone: Bert,
    pooling: Pooling,
    projection: Linear,
    squash: Option<Activation>,
    aside: Aside,
}

impl TextEncoder {
    /// Parameters `model.*` (the backbone, under its Hugging Face names) and `projection.{weight,bias}`.
    pub fn new(scope: &Scope, folder: &TextFolder, config: &ItemConfig, dim: usize) -> Result<Self> {
        let mut bert = folder.config.clone();
        if config.dropout >= 0.0 {
            bert.hidden_dropout_prob = config.dropout;
            bert.attention_probs_dropout_prob = config.dropout;
        }
        if config.max_tokens > bert.usable_positions() {
            let m = format!("{} is more than the encoder's {} positions", config.max_tokens, bert.usable_positions());
            return Err(Error::config("item.max_tokens", m));
        }
        let mut inner = scope.pp("model").encoder();
        if let Some(weights) = folder.weights.clone().filter(|_| config.pretrained) {
            inner = inner.pretrained(weights, bert::file_names);
        }
        aside::within(scope, bert.num_hidden_layers)?;
        Ok(Self {
            aside: Aside::new(scope, bert.num_hidden_layers, bert.hidden_size, dim)?,
            backbone: Bert::new(&inner, &bert)?,
            pooling: config.pooling,
            projection: Linear::new(&scope.pp("projection"), bert.hidden_size, dim, true, Init::XavierNormal)?,
            squash: config.activation.kernel(),
        })
    }
    fn tokens<'a>(&self, items: &'a ItemTable) -> Result<&'a Tokens> {
        items
            .features
            .tokens
            .as_ref()
            .ok_or_else(|| Error::config("item.kind", "a text model needs the items' texts, which were not prepared"))
    }
    /// Last hidden states of the items' tokens, packed; or, where only such are kept, one pooled row an item.
    fn states(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        if let Aside::Knowledge(k) = &self.aside {
            let (h, segments) = self.heights(items, pass)?;
            return Ok((k.run(pass, &h, &segments)?, segments));
        }
        if let Some(prefix) = &items.features.prefix {
            let (rows, segments) = prefix.rows(items.ids, &self.device())?;
            return Ok(match prefix.depth() {
                Depth::Blocks(k) => (self.backbone.upper(rows, k, &segments, pass)?, segments),
                _ => (rows, segments),
            });
        }
        let (ids, segments) = self.tokens(items)?.pack(items.ids);
        Ok((self.backbone.forward(ids, &segments, pass)?, segments))
    }
    fn device(&self) -> Device {
        self.projection.weight.value().device().clone()
    }
    /// What the encoder says on its way, the last state included: of every token, or of every item where pooled.
    fn heights(&self, items: &ItemTable, pass: &Pass) -> Result<(Vec<Act>, Segments)> {
        let taps = self.aside.taps();
        if let Some(prefix) = &items.features.prefix {
            let (rows, segments) = prefix.rows(items.ids, &self.device())?;
            return Ok((aside::split(pass, &rows, taps.len() + 1)?, segments));
        }
        let (ids, segments) = self.tokens(items)?.pack(items.ids);
        let mut h = self.backbone.tapped(ids, &segments, pass, taps)?;
        if let Aside::Side(_) = self.aside {
            h = h.iter().map(|h| ops::pool(pass, h, &segments, self.pooling)).collect::<Result<_>>()?;
        }
        Ok((h, segments))
    }
    fn pooled(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let (rows, segments) = self.states(items, pass)?;
        match items.features.prefix.as_ref().map(|p| p.depth()) {
            Some(Depth::Pooled) => Ok(rows),
            _ => ops::pool(pass, &rows, &segments, self.pooling),
        }
    }
    fn squashed(&self, pass: &Pass, y: Act) -> Result<Act> {
        self.squash.map_or(Ok(y.clone()), |f| ops::activation(pass, &y, f))
    }
    /// The items' vectors; and what the encoder says on its way, where a side tower listens.
    pub(super) fn encode_high(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Vec<Act>)> {
        let (pooled, side, h) = match &self.aside {
            Aside::Side(side) => {
                let h = self.heights(items, pass)?.0;
                let pooled = h.last().cloned().ok_or_else(|| Error::Numeric("no hidden state".into()))?;
                (pooled, Some(side.run(pass, &h)?), h)
            }
            _ => (self.pooled(items, pass)?, None, vec![]),
        };
        let mut y = ops::linear(pass, &pooled, &self.projection)?;
        if let Some(side) = side {
            y = ops::add(pass, &y, &side, 0.0)?;
        }
        Ok((self.squashed(pass, y)?, h))
    }
    /// How many heights a side tower reads, and the width of each.
    pub(super) fn listened(&self) -> (usize, usize) {
        (self.aside.taps().len() + 1, self.projection.weight.shape()[1])
    }
    /// (tokens, d), the projection of each token's last hidden state, and how they are packed.
    pub(super) fn projected(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (rows, segments) = self.states(items, pass)?;
        Ok((ops::linear(pass, &rows, &self.projection)?, segments))
    }
    /// Blocks of the backbone.
    pub(super) fn blocks(&self) -> usize {
        self.backbone.depth()
    }
}

impl ItemEncoder for TextEncoder {
    fn dim(&self) -> usize {
        self.projection.outputs()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        Ok(self.encode_high(items, pass)?.0)
    }
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        let depth = match (&self.aside, self.backbone.frozen_blocks()) {
            (Aside::Side(_), _) if !self.backbone.trains() => Depth::Side(self.aside.heights()),
            (Aside::Knowledge(_), _) if !self.backbone.trains() => Depth::Knowledge(self.aside.heights()),
            (Aside::None, _) if !self.backbone.trains() => Depth::Pooled,
            (Aside::Side(_) | Aside::Knowledge(_), _) => return vec![],
            (_, 0) => return vec![],
            (_, k) => Depth::Blocks(k),
        };
        vec![(Modality::Text, depth)]
    }
    fn prefix_rows(&self, _: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        match (depth, &features.tokens) {
            (Depth::Blocks(_) | Depth::Knowledge(_), Some(t)) => t.row(item).len(),
            _ => 1,
        }
    }
    fn prefix(&self, items: &ItemTable, _: Modality, depth: Depth) -> Result<Vec<f32>> {
        let rows = match depth {
            Depth::Pooled => self.pooled(items, &Pass::eval())?,
            Depth::Blocks(k) => {
                let (ids, segments) = self.tokens(items)?.pack(items.ids);
                self.backbone.lower(ids, &segments, k)?
            }
            Depth::Side(_) | Depth::Knowledge(_) => {
                let h = self.heights(items, &Pass::eval())?.0;
                ops::columns(&Pass::eval(), &h.iter().collect::<Vec<_>>())?
            }
        };
        to_vec(rows.value())
    }
    fn prefix_width(&self, _: Modality, depth: Depth) -> usize {
        let (heights, width) = self.listened();
        if let Depth::Side(_) | Depth::Knowledge(_) = depth { heights * width } else { width }
    }
}
