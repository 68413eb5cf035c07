//! Settings of the item encoder.

use super::cache::Cache;
use super::image::{Fusion, ImageConfig};
use crate::nn::kernels::Activation;
use crate::nn::ops::Pooling;
use serde::{Deserialize, Serialize};

/// The item encoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ItemConfig {
    /// `text`, `image`, `both` or `id`.
    pub kind: ItemKind,
    /// Pre-trained text encoder: a folder, a name below `models/`, or a hub id.
    pub model: String,
    /// Start the encoder from its pre-trained weights (false: random, for comparison).
    pub pretrained: bool,
    /// `cls` or `mean` over tokens.
    pub pooling: Pooling,
    /// After the projection: `gelu` or `none`.
    pub activation: ProjectionActivation,
    /// Tokens a text is cut to, special ones included.
    pub max_tokens: usize,
    /// Lower-case texts before tokenising.
    pub lower_case: bool,
    /// Dropout inside the encoder; negative: as its config.json says.
    pub dropout: f64,
    /// Only the last n blocks of the text encoder train; negative: all of it. What is below is computed once an item.
    pub train_layers: i64,
    /// How the output of the encoder's frozen layers is kept beside the data set: `f32`, `f16`, or `off`: not at all.
    pub cache: Cache,
    /// Megabytes that all such files of a data set may take; those used longest ago are removed.
    pub cache_mb: u64,
    /// With both modalities: `sum`, `concat`, `gated`, `co-attention`, or `mixture` (each item one of the two).
    pub fusion: Fusion,
    /// Mixture: share of the items with both that are taken as pictures (drawn by item id).
    pub image_share: f64,
    /// Pictures.
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

/// The content from which an item encoder computes item vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ItemKind {
    /// A row of a learned table (does not transfer).
    Id,
    /// Its text, through a pre-trained encoder.
    Text,
    /// Its picture, through a pre-trained encoder.
    Image,
    /// Text and picture.
    Both,
}

impl ItemKind {
    /// Name in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::Id => "id",
            Self::Text => "text",
            Self::Image => "image",
            Self::Both => "both",
        }
    }
}

/// Non-linearity after the projection of pooled vectors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProjectionActivation {
    /// GELU (MoRec).
    Gelu,
    /// Nothing (MicroLens).
    None,
}

impl ProjectionActivation {
    /// The kernel, if any.
    pub fn kernel(self) -> Option<Activation> {
        match self {
            Self::Gelu => Some(Activation::Gelu),
            Self::None => None,
        }
    }
}
