//! Hugging Face folder of a text encoder: `config.json`, `tokenizer.json`, weights.

use super::bert::BertConfig;
use crate::error::{Error, Result};
use crate::nn::weights::Weights;
use std::path::Path;
use std::sync::Arc;
use tokenizers::Tokenizer;

/// The files from which a text encoder is built.
#[derive(Clone)]
pub struct TextFolder {
    /// Architecture of the encoder.
    pub config: BertConfig,
    /// Text of `config.json`, unchanged, to be stored in checkpoints.
    pub config_json: String,
    /// Tokenizer of the encoder.
    pub tokenizer: Tokenizer,
    /// Text of `tokenizer.json`, unchanged, to be stored in checkpoints.
    pub tokenizer_json: String,
    /// Pre-trained weights; `None` for an encoder read from a checkpoint, which stores its own weights.
    pub weights: Option<Arc<Weights>>,
}

impl TextFolder {
    /// Reads a folder; with `weights` the weight files are opened, too.
    pub fn open(dir: &Path, weights: bool) -> Result<Self> {
        let need = |name: &str| {
            let path = dir.join(name);
            if !path.exists() {
                let m = format!("no {name}; a text encoder needs config.json, tokenizer.json and its weights");
                return Err(Error::model(dir, m));
            }
            crate::fsio::read_text(&path)
        };
        let (config_json, tokenizer_json) = (need("config.json")?, need("tokenizer.json")?);
        let config = BertConfig::parse(&config_json).map_err(|m| Error::model(dir.join("config.json"), m))?;
        let tokenizer = tokenizer_json
            .parse::<Tokenizer>()
            .map_err(|e| Error::model(dir.join("tokenizer.json"), format!("not a tokenizer: {e}")))?;
        let biggest = tokenizer.get_vocab_size(true);
        if biggest > config.vocab_size {
            let m = format!("has {biggest} tokens, config.json says vocab_size = {}", config.vocab_size);
            return Err(Error::model(dir.join("tokenizer.json"), m));
        }
        let weights = if weights { Some(Arc::new(Weights::open_dir(dir)?)) } else { None };
        Ok(Self { config, config_json, tokenizer, tokenizer_json, weights })
    }
}
