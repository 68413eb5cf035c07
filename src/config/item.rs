//! Settings of the item encoder.

use super::cache::Cache;
use super::image::{Fusion, ImageConfig};
use crate::nn::kernels::Activation;
use crate::nn::ops::Pooling;
use serde::{Deserialize, Serialize};

/// Settings of the item encoder (section `item`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemConfig {
    /// Kind of item encoder: `text`, `image`, `both` or `id`.
    pub kind: ItemKind,
    /// Pre-trained text encoder: a folder, a name below `models/`, or a hub id.
    pub model: String,
    /// Whether the text encoder starts from its pre-trained weights (false: random, for comparison).
    pub pretrained: bool,
    /// Pooling of the text encoder's output: `cls`, or `mean` over tokens.
    pub pooling: Pooling,
    /// Activation after the projection: `gelu` or `none`.
    pub activation: ProjectionActivation,
    /// Longest text in tokens, special tokens included; longer texts are truncated.
    pub max_tokens: usize,
    /// Whether texts are lower-cased before tokenising.
    pub lower_case: bool,
    /// Dropout inside the text encoder; negative: as in its config.json.
    pub dropout: f64,
    /// Number of last text encoder blocks that train; negative: all. Blocks below are computed once per item.
    pub train_layers: i64,
    /// Precision of the frozen-layer cache beside the data set: `f32`, `f16`, or `off` (no cache).
    pub cache: Cache,
    /// Limit in megabytes on all frozen-layer caches of a data set; the least recently used are removed.
    pub cache_mb: u64,
    /// Fusion of text and image (kind `both`): `sum`, `concat`, `gated`, `co-attention`, or `mixture` (each item has
    /// one of the two).
    pub fusion: Fusion,
    /// Fusion `mixture`: share of the items with both modalities that are represented by their image (drawn by item
    /// id).
    pub image_share: f64,
    /// Settings of the image encoder.
    pub image: ImageConfig,
}

impl Default for ItemConfig {
    fn default() -> Self {
        Self {
            kind: ItemKind::Text,
            model: String::new(),
            pretrained: true,
            pooling: Pooling::Mean,
            activation: ProjectionActivation::Gelu,
            max_tokens: 30,
            lower_case: true,
            dropout: -1.0,
            train_layers: -1,
            cache: Cache::F32,
            cache_mb: 16384,
            fusion: Fusion::Sum,
            image_share: 0.5,
            image: ImageConfig::default(),
        }
    }
}

/// Content from which an item encoder computes item vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// Item id: a row of a learned embedding table (does not transfer).
    Id,
    /// The item's text, through a pre-trained encoder.
    Text,
    /// The item's image, through a pre-trained encoder.
    Image,
    /// The item's text and image.
    Both,
}

impl ItemKind {
    /// Name of the kind in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Text => "text",
            Self::Image => "image",
            Self::Both => "both",
        }
    }
}

/// Activation after the projection of pooled vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectionActivation {
    /// GELU (MoRec).
    Gelu,
    /// No activation (MicroLens).
    None,
}

impl ProjectionActivation {
    /// The kernel of the activation; `None` without activation.
    pub fn kernel(self) -> Option<Activation> {
        match self {
            Self::Gelu => Some(Activation::Gelu),
            Self::None => None,
        }
    }
}
