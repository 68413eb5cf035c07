//! Items as text: a pre-trained transformer, pooling, projection.

pub mod bert;
mod folder;
mod sentence;

pub use bert::{Bert, BertConfig};
pub use folder::TextFolder;
pub use sentence::{SentenceEncoder, backbone};

use super::{ItemEncoder, ItemTable};
use crate::config::ItemConfig;
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Linear, Pass, Scope};
use candle_core::Tensor;

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
    fn pooled(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let tokens = items.features.tokens.as_ref().ok_or_else(|| {
            Error::config("item.kind", "a text model needs the items' texts, which were not prepared")
        })?;
        let (ids, segments) = tokens.pack(items.ids);
        let hidden = self.backbone.forward(ids, &segments, pass)?;
        ops::pool(pass, &hidden, &segments, self.pooling)
    }
}

impl ItemEncoder for TextEncoder {
    fn dim(&self) -> usize {
        self.projection.outputs()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let pooled = match &items.features.frozen {
            Some((width, all)) => {
                let mut rows = Vec::with_capacity(items.ids.len() * width);
                items
                    .ids
                    .iter()
                    .for_each(|&i| rows.extend_from_slice(&all[i as usize * width..(i as usize + 1) * width]));
                let device = self.projection.weight.value().device().clone();
                Act::constant(Tensor::from_vec(rows, (items.ids.len(), *width), &device)?)
            }
            None => self.pooled(items, pass)?,
        };
        let y = ops::linear(pass, &pooled, &self.projection)?;
        match self.squash {
            Some(f) => ops::activation(pass, &y, f),
            None => Ok(y),
        }
    }
    fn prefix_is_frozen(&self) -> bool {
        !self.backbone.trains()
    }
    fn prefix(&self, items: &ItemTable) -> Result<Act> {
        self.pooled(items, &Pass::eval())
    }
}
