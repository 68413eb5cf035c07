//! The modalities of an item's content. Everything that exists once a modality (encoder, content, frozen-layer cache,
//! learning rate) is kept in a map whose key is [`Modality`].

use super::cache::Cache;
use super::item::{ItemConfig, ItemKind};
use std::collections::BTreeMap;

/// Kind of content that an item encoder reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Modality {
    /// The item's text.
    Text,
    /// The item's picture.
    Image,
}

/// One value a modality; a modality that a model does not read has none.
pub type ByModality<T> = BTreeMap<Modality, T>;

impl Modality {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Text, Self::Image];
    /// Name in parameter names and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Image => "image",
        }
    }
    /// By [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|m| m.name() == name)
    }
    /// Beginning of the names of all parameters of its encoder: `item_encoder.text.`.
    pub fn parameter_prefix(self) -> String {
        format!("item_encoder.{}.", self.name())
    }
    /// Beginning of the names of the parameters of its pre-trained backbone: `item_encoder.text.model.`.
    pub fn backbone_prefix(self) -> String {
        format!("item_encoder.{}.model.", self.name())
    }
}

/// Settings that every pre-trained encoder has, whatever it reads.
#[derive(Debug, Clone, Copy)]
pub struct EncoderSettings<'a> {
    /// Section of the settings: `item` or `item.image`.
    pub section: &'static str,
    /// Folder, name below `models/`, or hub id.
    pub model: &'a str,
    /// Whether it starts from its pre-trained weights.
    pub pretrained: bool,
    /// Only the last n blocks train; negative: all.
    pub train_layers: i64,
    /// Precision of its frozen-layer cache.
    pub cache: Cache,
}

impl EncoderSettings<'_> {
    /// Dotted name of one of its settings.
    pub fn key(&self, name: &str) -> String {
        format!("{}.{name}", self.section)
    }
}

impl ItemConfig {
    /// The settings of a modality's encoder.
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
    /// The modalities that items of this kind are made of.
    pub fn modalities(self) -> &'static [Modality] {
        match self {
            Self::Id => &[],
            Self::Text => &[Modality::Text],
            Self::Image => &[Modality::Image],
            Self::Both => &[Modality::Text, Modality::Image],
        }
    }
    /// Whether items of this kind have a modality.
    pub fn has(self, modality: Modality) -> bool {
        self.modalities().contains(&modality)
    }
}
