//! The Hugging Face folders of a model's pre-trained encoders, one a modality.

use super::image::ImageFolder;
use super::text::TextFolder;
use crate::config::{ByModality, ItemConfig, Modality};
use crate::error::{Error, Result};
use crate::nn::weights::Weights;
use std::path::Path;
use std::sync::Arc;

/// What an encoder of one modality is built from.
#[derive(Clone)]
pub enum EncoderFolder {
    /// Text: config.json, tokenizer.json.
    Text(TextFolder),
    /// Image: config.json, preprocessor_config.json.
    Image(ImageFolder),
}

impl EncoderFolder {
    /// Reads the folder of a modality's encoder; with `weights` its tensors are opened, too.
    pub fn open(modality: Modality, dir: &Path, weights: bool) -> Result<Self> {
        Ok(match modality {
            Modality::Text => Self::Text(TextFolder::open(dir, weights)?),
            Modality::Image => Self::Image(ImageFolder::open(dir, weights)?),
        })
    }
    /// Name of its folder inside a model folder.
    pub fn checkpoint_folder(modality: Modality) -> &'static str {
        match modality {
            Modality::Text => "encoder",
            Modality::Image => "image-encoder",
        }
    }
    /// What it reads.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Text(_) => Modality::Text,
            Self::Image(_) => Modality::Image,
        }
    }
    /// `config.json` as it stands in the folder.
    pub fn config_json(&self) -> &str {
        match self {
            Self::Text(f) => &f.config_json,
            Self::Image(f) => &f.config_json,
        }
    }
    /// The files, by name, that are kept in checkpoints.
    pub fn files(&self) -> [(&'static str, &str); 2] {
        match self {
            Self::Text(f) => [("config.json", &f.config_json), ("tokenizer.json", &f.tokenizer_json)],
            Self::Image(f) => [("config.json", &f.config_json), ("preprocessor_config.json", &f.preprocess_json)],
        }
    }
    /// Pre-trained values; absent in checkpoints.
    pub fn weights(&self) -> Option<&Arc<Weights>> {
        match self {
            Self::Text(f) => f.weights.as_ref(),
            Self::Image(f) => f.weights.as_ref(),
        }
    }
    /// Refuses an encoder whose input is prepared in another way than `source`'s: loaded values would be applied to other input.
    pub fn check_same_input(&self, source: &Self, config: &ItemConfig) -> Result<()> {
        let key = config.encoder(self.modality()).key("model");
        match (self, source) {
            (Self::Text(a), Self::Text(b)) if a.tokenizer_json != b.tokenizer_json => Err(Error::config(
                key,
                "its tokenizer differs from the source's: loaded token vectors would mean other words",
            )),
            (Self::Image(a), Self::Image(b)) if a.preprocess(&config.image) != b.preprocess(&config.image) => Err(
                Error::config(key, "its pictures are prepared otherwise than the source's, whose values are loaded"),
            ),
            _ => Ok(()),
        }
    }
}

/// The encoder folders of a model.
#[derive(Clone, Default)]
pub struct Encoders(ByModality<EncoderFolder>);

impl Encoders {
    /// Adds (or replaces) an encoder.
    pub fn insert(&mut self, folder: EncoderFolder) {
        self.0.insert(folder.modality(), folder);
    }
    /// The encoder of a modality.
    pub fn get(&self, modality: Modality) -> Option<&EncoderFolder> {
        self.0.get(&modality)
    }
    /// All of them, in order of the modality.
    pub fn iter(&self) -> impl Iterator<Item = &EncoderFolder> {
        self.0.values()
    }
    /// The text encoder.
    pub fn text(&self) -> Option<&TextFolder> {
        match self.get(Modality::Text) {
            Some(EncoderFolder::Text(f)) => Some(f),
            _ => None,
        }
    }
    /// The image encoder.
    pub fn image(&self) -> Option<&ImageFolder> {
        match self.get(Modality::Image) {
            Some(EncoderFolder::Image(f)) => Some(f),
            _ => None,
        }
    }
}

impl From<TextFolder> for Encoders {
    fn from(folder: TextFolder) -> Self {
        [EncoderFolder::Text(folder)].into_iter().collect()
    }
}

impl From<ImageFolder> for Encoders {
    fn from(folder: ImageFolder) -> Self {
        [EncoderFolder::Image(folder)].into_iter().collect()
    }
}

impl FromIterator<EncoderFolder> for Encoders {
    fn from_iter<I: IntoIterator<Item = EncoderFolder>>(folders: I) -> Self {
        Self(folders.into_iter().map(|f| (f.modality(), f)).collect())
    }
}
