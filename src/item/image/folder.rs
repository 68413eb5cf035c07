//! Hugging Face folder of a vision encoder: `config.json`, `preprocessor_config.json`, weights.

use super::{Backbone, ResNet, ResNetConfig, Swin, SwinConfig, Vit, VitConfig};
use crate::config::{BatchNormMode, ImageConfig};
use crate::error::{Error, Result};
use crate::nn::Scope;
use crate::nn::weights::Weights;
use crate::picture::Preprocess;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Architecture of a vision encoder.
#[derive(Debug, Clone)]
pub enum VisionConfig {
    /// ViT, ViT-MAE, DINOv2 or CLIP.
    Vit(VitConfig),
    /// ResNet.
    ResNet(ResNetConfig),
    /// Swin transformer.
    Swin(SwinConfig),
}

impl VisionConfig {
    /// Parses `config.json`; the error message names what is not supported.
    pub fn parse(json: &str) -> Result<Self, String> {
        let v: serde_json::Value = serde_json::from_str(json).map_err(|e| e.to_string())?;
        match v["model_type"].as_str() {
            Some("vit" | "vit_mae" | "dinov2" | "clip" | "clip_vision_model") => VitConfig::parse(&v).map(Self::Vit),
            Some("resnet") => ResNetConfig::parse(&v).map(Self::ResNet),
            Some("swin") => SwinConfig::parse(&v).map(Self::Swin),
            other => Err(format!(
                "model_type {} is none of vit, vit_mae, dinov2, clip, resnet, swin",
                other.map_or("is missing, which".into(), |o| format!("`{o}`"))
            )),
        }
    }
}

/// The files from which an image encoder is built.
#[derive(Clone)]
pub struct ImageFolder {
    /// The folder.
    pub dir: PathBuf,
    /// Architecture of the encoder.
    pub config: VisionConfig,
    /// Text of `config.json`, unchanged, to be stored in checkpoints.
    pub config_json: String,
    /// Preprocessing of images.
    pub preprocess: Preprocess,
    /// Text of `preprocessor_config.json`, unchanged, to be stored in checkpoints.
    pub preprocess_json: String,
    /// Pre-trained weights; `None` for an encoder read from a checkpoint, which stores its own weights.
    pub weights: Option<Arc<Weights>>,
}

impl ImageFolder {
    /// Whether a folder contains a vision encoder. (CLIP's folder contains a tokenizer, too.)
    pub fn is_one(dir: &Path) -> bool {
        crate::fsio::read_model_text(&dir.join("config.json")).is_ok_and(|json| VisionConfig::parse(&json).is_ok())
    }
    /// Reads a folder; with `weights` the weight files are opened, too.
    pub fn open(dir: &Path, weights: bool) -> Result<Self> {
        let path = dir.join("config.json");
        if !path.exists() {
            return Err(Error::model(dir, "no config.json; an image encoder needs config.json and its weights"));
        }
        let config_json = crate::fsio::read_model_text(&path)?;
        let config = VisionConfig::parse(&config_json).map_err(|m| Error::model(&path, m))?;
        let path = dir.join("preprocessor_config.json");
        if !path.exists() {
            let m =
                "no preprocessor_config.json; size and scale of the pictures an encoder was trained on belong to it";
            return Err(Error::model(dir, m));
        }
        let preprocess_json = crate::fsio::read_model_text(&path)?;
        let preprocess = Preprocess::parse(&preprocess_json).map_err(|m| Error::model(&path, m))?;
        let weights = if weights { Some(Arc::new(Weights::open_dir(dir)?)) } else { None };
        Ok(Self { dir: dir.into(), config, config_json, preprocess, preprocess_json, weights })
    }
    /// Preprocessing of images under the given settings.
    pub fn preprocess(&self, c: &ImageConfig) -> Preprocess {
        if c.side == 0 { self.preprocess.clone() } else { self.preprocess.clone().with_side(c.side) }
    }
    /// Builds the backbone with its parameters below `scope`, initialised from the pre-trained weights if the folder
    /// was opened with them and the settings ask for them.
    pub fn backbone(&self, scope: &Scope, c: &ImageConfig) -> Result<Box<dyn Backbone>> {
        let scope = match self.weights.clone().filter(|_| c.pretrained) {
            Some(w) => scope.pretrained(w, super::file_names),
            None => scope.clone(),
        };
        let (side, _) = self.preprocess(c).output();
        if c.dropout >= 0.0 && !matches!(self.config, VisionConfig::Vit(_)) {
            return Err(Error::config(
                "item.image.dropout",
                "is for vision transformers with a class token; leave it out",
            ));
        }
        if c.batch_norm == BatchNormMode::Train && !matches!(self.config, VisionConfig::ResNet(_)) {
            return Err(Error::config("item.image.batch_norm", "this encoder has no batch norm; leave it out"));
        }
        let network = || -> Result<Box<dyn Backbone>> {
            Ok(match &self.config {
                VisionConfig::Vit(v) => {
                    let mut v = v.clone();
                    if c.dropout >= 0.0 {
                        v.dropout = (c.dropout, c.dropout);
                    }
                    Box::new(Vit::new(&scope, &v, side)?)
                }
                VisionConfig::ResNet(r) => Box::new(ResNet::new(&scope, r, (side, side), c.batch_norm)?),
                VisionConfig::Swin(s) => Box::new(Swin::new(&scope, s, side)?),
            })
        };
        network().map_err(|e| match e {
            // The folder's own size does not fit its own network.
            Error::Config { key, message } if c.side == 0 && key == "item.image.side" => {
                let m = format!("config.json and preprocessor_config.json do not fit: {message}; or set {key}");
                Error::model(&self.dir, m)
            }
            e => e,
        })
    }
}
