//! Items as text: a pre-trained transformer, pooling, projection.

pub mod bert;
mod folder;
mod sentence;

pub use bert::{Bert, BertConfig};
pub use folder::TextFolder;
pub use sentence::{SentenceEncoder, backbone};

use super::{Depth, Features, ItemEncoder, ItemTable, Modality, Tokens};
use crate::config::ItemConfig;
use crate::error::{Error, Result};
use crate::nn::host::to_vec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Linear, Pass, Scope, Segments};

/// Text → (n, d): backbone, pooling, Linear, activation (MoRec's text encoder; NineRec's with pooling = cls).
pub struct TextEncoder {
    backbone: Bert,
    pooling: Pooling,
    projection: Linear,
    squash: Option<Activation>,
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
        Ok(Self {
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
        let device = self.projection.weight.value().device().clone();
        if let Some(prefix) = &items.features.prefix {
            let (rows, segments) = prefix.rows(items.ids, &device)?;
            return Ok(match prefix.depth() {
                Depth::Pooled => (rows, segments),
                Depth::Blocks(k) => (self.backbone.upper(rows, k, &segments, pass)?, segments),
            });
        }
        let (ids, segments) = self.tokens(items)?.pack(items.ids);
        Ok((self.backbone.forward(ids, &segments, pass)?, segments))
    }
    fn pooled(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let (rows, segments) = self.states(items, pass)?;
        match items.features.prefix.as_ref().map(|p| p.depth()) {
            Some(Depth::Pooled) => Ok(rows),
            _ => ops::pool(pass, &rows, &segments, self.pooling),
        }
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
        let pooled = self.pooled(items, pass)?;
        let y = ops::linear(pass, &pooled, &self.projection)?;
        match self.squash {
            Some(f) => ops::activation(pass, &y, f),
            None => Ok(y),
        }
    }
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        let depth = match self.backbone.frozen_blocks() {
            _ if !self.backbone.trains() => Depth::Pooled,
            0 => return vec![],
            k => Depth::Blocks(k),
        };
        vec![(Modality::Text, depth)]
    }
    fn prefix_rows(&self, _: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        match (depth, &features.tokens) {
            (Depth::Blocks(_), Some(t)) => t.row(item).len(),
            _ => 1,
        }
    }
    fn prefix(&self, items: &ItemTable, _: Modality, depth: Depth) -> Result<(Vec<f32>, usize)> {
        let rows = match depth {
            Depth::Pooled => self.pooled(items, &Pass::eval())?,
            Depth::Blocks(k) => {
                let (ids, segments) = self.tokens(items)?.pack(items.ids);
                self.backbone.lower(ids, &segments, k)?
            }
        };
        Ok((to_vec(rows.value())?, rows.dims2()?.1))
    }
}
