//! The modalities of an item's content. Values that exist once per modality (encoder, content, frozen-layer cache,
//! learning rate) are stored in a map with the key [`Modality`].

use super::cache::Cache;
use super::item::{ItemConfig, ItemKind};
use std::collections::BTreeMap;

/// Kind of content that an item encoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// Text of the item.
    Text,
    /// Image of the item.
    Image,
}

/// Map with at most one value per modality; modalities that a model does not read are absent.
pub type ByModality<T> = BTreeMap<Modality, T>;

impl Modality {
    /// All modalities.
    pub const ALL: [Self; 2] = [Self::Text, Self::Image];
    /// Name of the modality in parameter names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
        }
    }
    /// The modality with the given [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
    /// Prefix of the names of all parameters of the modality's encoder: `item_encoder.text.`.
    pub fn parameter_prefix(self) -> String {
        format!("item_encoder.{}.", self.name())
    }
    /// Prefix of the names of the parameters of its pre-trained backbone: `item_encoder.text.model.`.
    pub fn backbone_prefix(self) -> String {
        format!("item_encoder.{}.model.", self.name())
    }
}

/// Settings common to the pre-trained encoders of all modalities.
#[derive(Debug, Clone, Copy)]
pub struct EncoderSettings<'a> {
    /// Section of the settings: `item` or `item.image`.
    pub section: &'static str,
    /// Encoder: folder, name below `models/`, or hub id.
    pub model: &'a str,
    /// Whether the encoder starts from its pre-trained weights.
    pub pretrained: bool,
    /// Number of last blocks that train; negative: all.
    pub train_layers: i64,
    /// Precision of the encoder's frozen-layer cache.
    pub cache: Cache,
}

impl EncoderSettings<'_> {
    /// Dotted name of the setting `name` in this section.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }
}

impl ItemConfig {
    /// Settings of the encoder of a modality.
    pub fn encoder(&self, modality: Modality) -> EncoderSettings<'_> {
        match modality {
            Modality::Text => EncoderSettings {
                section: "item",
                model: &self.model,
                pretrained: self.pretrained,
                train_layers: self.train_layers,
                cache: self.cache,
            },
            Modality::Image => EncoderSettings {
                section: "item.image",
                model: &self.image.model,
                pretrained: self.image.pretrained,
                train_layers: self.image.train_layers,
                cache: self.image.cache,
            },
        }
    }
}

impl ItemKind {
    /// Modalities read by this kind of item encoder.
    pub fn modalities(self) -> &'static [Modality] {
        match self {
            Self::Id => &[],
            Self::Text => &[Modality::Text],
            Self::Image => &[Modality::Image],
            Self::Both => &[Modality::Text, Modality::Image],
        }
    }
    /// Whether this kind of item encoder reads a modality.
    pub fn has(self, modality: Modality) -> bool {
        self.modalities().contains(&modality)
    }
}
