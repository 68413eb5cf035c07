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

/// A tokenizer whose ids all have a row among `rows`. Special tokens that a post-processor adds stand under ids of their own,
/// and a vocabulary may lack the token for unknown words, so two texts are tokenised.
fn checked(json: &str, rows: usize) -> std::result::Result<Tokenizer, String> {
    let tokenizer = json.parse::<Tokenizer>().map_err(|e| format!("not a tokenizer: {e}"))?;
    let mut top = tokenizer.get_vocab(true).into_values().max().unwrap_or(0);
    let mut probe = tokenizer.clone();
    probe.with_padding(None);
    probe.with_truncation(None).map_err(|e| format!("not a tokenizer: {e}"))?;
    for text in ["", "a \u{1f9ff}\u{e000}"] {
        let found = probe.encode_fast(text, true).map_err(|e| format!("cannot tokenise a text: {e}"))?;
        top = found.get_ids().iter().copied().max().unwrap_or(0).max(top);
    }
    match top as usize >= rows {
        true => Err(format!("has token ids up to {top}, config.json says vocab_size = {rows}")),
        false => Ok(tokenizer),
    }
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
            crate::fsio::read_model_text(&path)
        };
        let (config_json, tokenizer_json) = (need("config.json")?, need("tokenizer.json")?);
        let config = BertConfig::parse(&config_json).map_err(|m| Error::model(dir.join("config.json"), m))?;
        let tokenizer = crate::fsio::caught(|| checked(&tokenizer_json, config.vocab_size))
            .unwrap_or_else(|| Err("not a tokenizer: its reader panicked".into()))
            .map_err(|m| Error::model(dir.join("tokenizer.json"), m))?;
        let weights = if weights { Some(Arc::new(Weights::open_dir(dir)?)) } else { None };
        Ok(Self { config, config_json, tokenizer, tokenizer_json, weights })
    }
}
