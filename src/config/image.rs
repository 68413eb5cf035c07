//! Settings of the image encoder.

use super::cache::Cache;
use crate::error::{Error, Result};
use crate::picture::Augment;
use serde::{Deserialize, Serialize};

/// Settings of the image encoder (section `item.image`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Pre-trained vision encoder: a folder, a name below `models/`, or a hub id.
    pub model: String,
    /// Whether the encoder starts from its pre-trained weights (false: random, for comparison).
    pub pretrained: bool,
    /// Pooling: `cls` (class token), `mean` over tokens or pixels, or `auto`: cls where the encoder has a class token.
    pub pooling: ImagePooling,
    /// Image width and height in pixels; 0: as in the encoder's preprocessor_config.json.
    pub side: usize,
    /// Augmentation while training: `none`, `flip`, or `crop` (a random part, mirrored or not).
    pub augment: Augment,
    /// Batch norm of a ResNet while training: `frozen` (the pre-trained statistics) or `train` (the batch's
    /// statistics).
    pub batch_norm: BatchNormMode,
    /// Dropout inside a vision transformer; negative: as in its config.json.
    pub dropout: f64,
    /// Number of last encoder blocks that train; negative: all. Blocks below are computed once per item. (Transfer
    /// presets other than full and from-scratch ignore this setting.)
    pub train_layers: i64,
    /// Learning rate of the image encoder; negative: `train.encoder_lr`.
    pub lr: f64,
    /// Precision of the frozen-layer cache beside the data set: `f32`, `f16`, or `off`.
    pub cache: Cache,
}

impl Default for ImageConfig {
    fn default() -> Self {
        Self {
            model: String::new(),
            pretrained: true,
            pooling: ImagePooling::Auto,
            side: 0,
            augment: Augment::None,
            batch_norm: BatchNormMode::Frozen,
            dropout: -1.0,
            train_layers: -1,
            lr: -1.0,
            cache: Cache::F32,
        }
    }
}

/// Pooling of an image encoder's output rows to one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePooling {
    /// The class token where the encoder has one, else the mean.
    Auto,
    /// The class token.
    Cls,
    /// The mean over tokens or pixels.
    Mean,
}

/// Batch norm statistics used while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The pre-trained running statistics, unchanged.
    Frozen,
    /// Statistics over the distinct images of the batch; the running statistics are updated.
    Train,
}

/// Fusion of an item's text and image vectors into one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// Sum of the two vectors.
    Sum,
    /// Concatenation of the two vectors, then a linear layer.
    Concat,
    /// Gate σ(W·text) ⊙ (V·image) (NineRec).
    Gated,
    /// Cross-attention from tokens to image patches and from patches to tokens, then as `concat` (NineRec).
    CoAttention,
    /// Each item is represented by its text or by its image (TransRec's mixture of modality).
    Mixture,
}

impl ImageConfig {
    pub(super) fn check(&self, used: bool) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(format!("item.image.{key}"), m));
        if !self.dropout.is_finite() || self.dropout >= 1.0 {
            return bad("dropout", format!("{} is no probability below 1", self.dropout));
        }
        if !self.lr.is_finite() {
            return bad("lr", format!("{} is not a finite number", self.lr));
        }
        if self.side > 4096 {
            return bad("side", format!("{} pixels a side are more than 4096", self.side));
        }
        if used && self.model.is_empty() {
            return bad("model", "an image model needs a pre-trained encoder: a folder, a name or a hub id".into());
        }
        Ok(())
    }
}
