//! Text encoder: token ids → (n, d) by backbone, pooling, projection, activation.

use super::{Bert, TextFolder, bert};
use crate::config::{ItemConfig, Modality};
use crate::error::{Error, Result};
use crate::item::hidden_adapter::{self, HiddenStateAdapter};
use crate::item::{Features, FrozenDepth, ItemEncoder, ItemTable, Tokens};
use crate::nn::host::to_vec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Linear, Pass, Scope, Segments};
use candle_core::Device;

/// Encoder of items as text → (n, d): backbone, pooling, linear projection, activation (MoRec's text encoder; with
/// pooling = cls NineRec's).
pub struct TextEncoder {
    backbone: Bert,
    pooling: Pooling,
    projection: Linear,
    activation: Option<Activation>,
    hidden_adapter: HiddenStateAdapter,
}

impl TextEncoder {
    /// Declares `model.*` (the backbone, under its Hugging Face names) and `projection.{weight,bias}`.
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
        hidden_adapter::check_adapter_layers(scope, bert.num_hidden_layers)?;
        Ok(Self {
            hidden_adapter: HiddenStateAdapter::new(scope, bert.num_hidden_layers, bert.hidden_size, dim)?,
            backbone: Bert::new(&inner, &bert)?,
            pooling: config.pooling,
            projection: Linear::new(&scope.pp("projection"), bert.hidden_size, dim, true, Init::XavierNormal)?,
            activation: config.activation.kernel(),
        })
    }
    fn tokens<'a>(&self, items: &'a ItemTable) -> Result<&'a Tokens> {
        items
            .features
            .tokens()
            .ok_or_else(|| Error::config("item.kind", "a text model needs the items' texts, which were not prepared"))
    }
    /// Packed last hidden states of the items' tokens, or one pooled row per item if only pooled rows are cached.
    fn states(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        if let HiddenStateAdapter::KAdapter(k) = &self.hidden_adapter {
            let (h, segments) = self.hidden_states(items, pass)?;
            return Ok((k.forward(pass, &h, &segments)?, segments));
        }
        if let Some(cache) = items.features.frozen.get(&Modality::Text) {
            let (rows, segments) = cache.rows(items.ids, &self.device())?;
            return Ok(match cache.depth() {
                FrozenDepth::Blocks(k) => (self.backbone.forward_upper(rows, k, &segments, pass)?, segments),
                _ => (rows, segments),
            });
        }
        let (ids, segments) = self.tokens(items)?.pack(items.ids);
        Ok((self.backbone.forward(ids, &segments, pass)?, segments))
    }
    fn device(&self) -> Device {
        self.projection.weight.value().device().clone()
    }
    /// Hidden states at the taps and the last one: one row per token, or one pooled row per item with a side tower.
    fn hidden_states(&self, items: &ItemTable, pass: &Pass) -> Result<(Vec<Act>, Segments)> {
        let taps = self.hidden_adapter.taps();
        if let Some(cache) = items.features.frozen.get(&Modality::Text) {
            let (rows, segments) = cache.rows(items.ids, &self.device())?;
            return Ok((hidden_adapter::split_columns(pass, &rows, taps.len() + 1)?, segments));
        }
        let (ids, segments) = self.tokens(items)?.pack(items.ids);
        let mut h = self.backbone.forward_with_taps(ids, &segments, pass, taps)?;
        if let HiddenStateAdapter::SideTower(_) = self.hidden_adapter {
            h = h.iter().map(|h| ops::pool(pass, h, &segments, self.pooling)).collect::<Result<_>>()?;
        }
        Ok((h, segments))
    }
    fn pooled(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        let (rows, segments) = self.states(items, pass)?;
        match items.features.frozen.get(&Modality::Text).map(|p| p.depth()) {
            Some(FrozenDepth::Pooled) => Ok(rows),
            _ => ops::pool(pass, &rows, &segments, self.pooling),
        }
    }
    fn activate(&self, pass: &Pass, y: Act) -> Result<Act> {
        self.activation.map_or(Ok(y.clone()), |f| ops::activation(pass, &y, f))
    }
    /// Item vectors and, with a side tower, the pooled hidden states that it reads.
    pub(in crate::item) fn encode_with_taps(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Vec<Act>)> {
        let (pooled, side, h) = match &self.hidden_adapter {
            HiddenStateAdapter::SideTower(side) => {
                let h = self.hidden_states(items, pass)?.0;
                let pooled = h.last().cloned().ok_or_else(|| Error::Numeric("no hidden state".into()))?;
                (pooled, Some(side.forward(pass, &h)?), h)
            }
            _ => (self.pooled(items, pass)?, None, vec![]),
        };
        let mut y = ops::linear(pass, &pooled, &self.projection)?;
        if let Some(side) = side {
            y = ops::add(pass, &y, &side, 0.0)?;
        }
        Ok((self.activate(pass, y)?, h))
    }
    /// Number of hidden states that a side tower reads, and the width of each.
    pub(in crate::item) fn tap_shape(&self) -> (usize, usize) {
        (self.hidden_adapter.taps().len() + 1, self.projection.weight.shape()[1])
    }
    /// Projection of each token's last hidden state (tokens, d), packed by item.
    pub(in crate::item) fn project_rows(&self, items: &ItemTable, pass: &Pass) -> Result<(Act, Segments)> {
        let (rows, segments) = self.states(items, pass)?;
        Ok((ops::linear(pass, &rows, &self.projection)?, segments))
    }
    /// Number of blocks of the backbone.
    pub(in crate::item) fn blocks(&self) -> usize {
        self.backbone.depth()
    }
}

impl ItemEncoder for TextEncoder {
    fn dim(&self) -> usize {
        self.projection.outputs()
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        Ok(self.encode_with_taps(items, pass)?.0)
    }
    fn frozen_depths(&self) -> Vec<(Modality, FrozenDepth)> {
        let depth = match (&self.hidden_adapter, self.backbone.frozen_blocks()) {
            (HiddenStateAdapter::SideTower(_), _) if !self.backbone.trains() => {
                FrozenDepth::SideTower(self.hidden_adapter.schedule())
            }
            (HiddenStateAdapter::KAdapter(_), _) if !self.backbone.trains() => {
                FrozenDepth::KAdapter(self.hidden_adapter.schedule())
            }
            (HiddenStateAdapter::None, _) if !self.backbone.trains() => FrozenDepth::Pooled,
            (HiddenStateAdapter::SideTower(_) | HiddenStateAdapter::KAdapter(_), _) => return vec![],
            (_, 0) => return vec![],
            (_, k) => FrozenDepth::Blocks(k),
        };
        vec![(Modality::Text, depth)]
    }
    fn frozen_rows(&self, _: Modality, features: &Features, depth: FrozenDepth, item: usize) -> usize {
        match (depth, features.tokens()) {
            (FrozenDepth::Blocks(_) | FrozenDepth::KAdapter(_), Some(t)) => t.row(item).len(),
            _ => 1,
        }
    }
    fn frozen_output(&self, items: &ItemTable, _: Modality, depth: FrozenDepth) -> Result<Vec<f32>> {
        let rows = match depth {
            FrozenDepth::Pooled => self.pooled(items, &Pass::eval())?,
            FrozenDepth::Blocks(k) => {
                let (ids, segments) = self.tokens(items)?.pack(items.ids);
                self.backbone.forward_lower(ids, &segments, k)?
            }
            FrozenDepth::SideTower(_) | FrozenDepth::KAdapter(_) => {
                let h = self.hidden_states(items, &Pass::eval())?.0;
                ops::concat_columns(&Pass::eval(), &h.iter().collect::<Vec<_>>())?
            }
        };
        to_vec(rows.value())
    }
    fn frozen_width(&self, _: Modality, depth: FrozenDepth) -> usize {
        let (hidden_states, width) = self.tap_shape();
        if let FrozenDepth::SideTower(_) | FrozenDepth::KAdapter(_) = depth { hidden_states * width } else { width }
    }
}
