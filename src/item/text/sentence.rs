//! A frozen text encoder without projection: texts → pooled vectors.

use super::{Bert, TextFolder, bert};
use crate::error::Result;
use crate::item::{Tokens, compute_rows};
use crate::nn::host::to_vec;
use crate::nn::ops::{self, Pooling};
use crate::nn::{Act, Action, Origin, Params, Pass, Scope, Segments};
use candle_core::Device;

/// A frozen pre-trained backbone with its pooling.
pub struct SentenceEncoder {
    backbone: Bert,
    pooling: Pooling,
    width: usize,
    device: Device,
}

/// Builds the backbone of a folder below `scope`, initialised from the folder's weights if it was opened with them.
pub fn backbone(scope: &Scope, folder: &TextFolder) -> Result<Bert> {
    let scope = match &folder.weights {
        Some(w) => scope.pretrained(w.clone(), bert::file_names),
        None => scope.clone(),
    };
    Bert::new(&scope, &folder.config)
}

impl SentenceEncoder {
    /// Loads the encoder from a folder that was opened with its weights.
    pub fn new(folder: &TextFolder, pooling: Pooling) -> Result<Self> {
        Self::on(&Device::Cpu, folder, pooling)
    }
    /// As [`SentenceEncoder::new`], to compute on a device.
    pub fn on(device: &Device, folder: &TextFolder, pooling: Pooling) -> Result<Self> {
        let action = Action { origin: Origin::Pretrained, train: false, lr: None };
        let specs = Params::declare(|s| backbone(s, folder))?;
        let actions = specs.into_iter().map(|s| (s.name, action)).collect();
        let (_, backbone) = Params::build(0, device, &actions, None, |s| backbone(s, folder))?;
        Ok(Self { backbone, pooling, width: folder.config.hidden_size, device: device.clone() })
    }
    /// Dimension of the pooled vectors.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Last hidden state of packed tokens (t, width).
    pub fn hidden(&self, ids: Vec<u32>, segments: &Segments) -> Result<Act> {
        self.backbone.forward(ids, segments, &Pass::eval())
    }
    /// Pooled vectors of some texts, encoded as one batch, row by row.
    pub fn encode_batch(&self, tokens: &Tokens, which: &[u32]) -> Result<Vec<f32>> {
        let (ids, segments) = tokens.pack(which);
        let hidden = self.hidden(ids, &segments)?;
        to_vec(ops::pool(&Pass::eval(), &hidden, &segments, self.pooling)?.value())
    }
    /// Pooled vectors of all texts (texts, width), row by row; `on_progress(done, all)` is called after each batch.
    pub fn encode(&self, tokens: &Tokens, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        let len = |i: usize| tokens.row(i).len();
        compute_rows(tokens.len(), self.width, len, &self.device, |batch| self.encode_batch(tokens, batch), on_progress)
    }
}
