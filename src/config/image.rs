//! Settings of items' pictures.

use super::cache::Cache;
use crate::error::{Error, Result};
use crate::picture::Augment;
use serde::{Deserialize, Serialize};

/// How a picture becomes a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ImageConfig {
    /// Pre-trained vision encoder: a folder, a name below `models/`, or a hub id.
    pub model: String,
    /// Start it from its pre-trained weights (false: random, for comparison).
    pub pretrained: bool,
    /// `cls` (the class token), `mean` over tokens or pixels, or `auto`: cls where there is one.
    pub pooling: ImagePooling,
    /// Pixels a side; 0: as the encoder's preprocessor_config.json says.
    pub side: usize,
    /// While training: `none`, `flip`, or `crop` (a random part, mirrored or not).
    pub augment: Augment,
    /// Batch norm of a ResNet while training: `frozen` (the pre-trained statistics) or `train` (those of the batch).
    pub batch_norm: BatchNormMode,
    /// Dropout inside a vision transformer; negative: as its config.json says.
    pub dropout: f64,
    /// Only the last n blocks of the encoder train; negative: all of it. What is below is computed once an item. (The transfer
    /// presets other than full and from-scratch decide that themselves.)
    pub train_layers: i64,
    /// Its learning rate; negative: as `train.encoder_lr`.
    pub lr: f64,
    /// How the output of its frozen layers is kept beside the data set: `f32`, `f16`, or `off`.
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

/// How rows become a picture's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ImagePooling {
    /// The class token where there is one, else the mean.
    Auto,
    /// The class token.
    Cls,
    /// The mean.
    Mean,
}

/// Statistics of batch norm while training.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchNormMode {
    /// The running ones, unchanged.
    Frozen,
    /// Those of the distinct pictures of the batch; the running ones follow.
    Train,
}

/// How text and picture of an item become one vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fusion {
    /// Their sum.
    Sum,
    /// Side by side, then Linear.
    Concat,
    /// σ(W·text) ⊙ (V·picture) (NineRec).
    Gated,
    /// Tokens look at the picture, and its pieces at the tokens; then as `concat` (NineRec).
    CoAttention,
    /// Each item is its text or its picture (TransRec's mixture of modality).
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
