//! Hugging Face folders of a model's pre-trained encoders, one per modality.

use super::image::ImageFolder;
use super::text::TextFolder;
use crate::config::{ByModality, ItemConfig, Modality};
use crate::error::{Error, Result};
use crate::nn::weights::Weights;
use std::path::Path;
use std::sync::Arc;

/// The files from which an encoder of one modality is built.
#[derive(Clone)]
pub enum EncoderFolder {
    /// Text encoder: `config.json`, `tokenizer.json`.
    Text(Box<TextFolder>),
    /// Image encoder: `config.json`, `preprocessor_config.json`.
    Image(Box<ImageFolder>),
}

impl EncoderFolder {
    /// Reads the folder of the encoder of a modality; with `weights` the weight files are opened, too.
    pub fn open(modality: Modality, dir: &Path, weights: bool) -> Result<Self> {
        Ok(match modality {
            Modality::Text => TextFolder::open(dir, weights)?.into(),
            Modality::Image => ImageFolder::open(dir, weights)?.into(),
        })
    }
    /// Name of the encoder's subfolder in a model folder.
    pub fn checkpoint_folder(modality: Modality) -> &'static str {
        match modality {
            Modality::Text => "encoder",
            Modality::Image => "image-encoder",
        }
    }
    /// Modality that the encoder reads.
    pub fn modality(&self) -> Modality {
        match self {
            Self::Text(_) => Modality::Text,
            Self::Image(_) => Modality::Image,
        }
    }
    /// Text of the folder's `config.json`, unchanged.
    pub fn config_json(&self) -> &str {
        match self {
            Self::Text(f) => &f.config_json,
            Self::Image(f) => &f.config_json,
        }
    }
    /// Names and contents of the files that are stored in checkpoints.
    pub fn files(&self) -> [(&'static str, &str); 2] {
        match self {
            Self::Text(f) => [("config.json", &f.config_json), ("tokenizer.json", &f.tokenizer_json)],
            Self::Image(f) => [("config.json", &f.config_json), ("preprocessor_config.json", &f.preprocess_json)],
        }
    }
    /// Pre-trained weights; `None` for an encoder read from a checkpoint.
    pub fn weights(&self) -> Option<&Arc<Weights>> {
        match self {
            Self::Text(f) => f.weights.as_ref(),
            Self::Image(f) => f.weights.as_ref(),
        }
    }
    /// Returns an error if this encoder preprocesses its input differently from `source`, because weights loaded from
    /// there would be applied to other input.
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

/// Encoder folders of a model, by modality.
#[derive(Clone, Default)]
pub struct Encoders(ByModality<EncoderFolder>);

impl Encoders {
    /// Adds the encoder of a modality, or replaces it.
    pub fn insert(&mut self, folder: EncoderFolder) {
        self.0.insert(folder.modality(), folder);
    }
    /// The encoder of a modality, if the model has one.
    pub fn get(&self, modality: Modality) -> Option<&EncoderFolder> {
        self.0.get(&modality)
    }
    /// Iterates over the encoders in order of their modality.
    pub fn iter(&self) -> impl Iterator<Item = &EncoderFolder> {
        self.0.values()
    }
    /// The text encoder, if the model has one.
    pub fn text(&self) -> Option<&TextFolder> {
        match self.get(Modality::Text) {
            Some(EncoderFolder::Text(f)) => Some(f),
            _ => None,
        }
    }
    /// The image encoder, if the model has one.
    pub fn image(&self) -> Option<&ImageFolder> {
        match self.get(Modality::Image) {
            Some(EncoderFolder::Image(f)) => Some(f),
            _ => None,
        }
    }
}

impl From<TextFolder> for EncoderFolder {
    fn from(folder: TextFolder) -> Self {
        Self::Text(Box::new(folder))
    }
}

impl From<ImageFolder> for EncoderFolder {
    fn from(folder: ImageFolder) -> Self {
        Self::Image(Box::new(folder))
    }
}

impl<F: Into<EncoderFolder>> From<F> for Encoders {
    fn from(folder: F) -> Self {
        [folder.into()].into_iter().collect()
    }
}

impl FromIterator<EncoderFolder> for Encoders {
    fn from_iter<I: IntoIterator<Item = EncoderFolder>>(folders: I) -> Self {
        Self(folders.into_iter().map(|f| (f.modality(), f)).collect())
    }
}
