//! The teacher of a text distillation: frozen encoder and tokenisation.

use crate::distill::DistillConfig;
use crate::error::Result;
use crate::item::Tokens;
use crate::item::text::{SentenceEncoder, TextFolder};
use std::path::Path;

/// A frozen text encoder with its tokenizer.
pub struct Teacher {
    /// Configuration and tokenizer of the teacher.
    pub folder: TextFolder,
    /// The teacher's encoder, frozen.
    pub encoder: SentenceEncoder,
    /// SHA-256 of the teacher's weights.
    pub digest: String,
    config: DistillConfig,
}

impl Teacher {
    /// Opens the teacher's folder, which has to contain weights.
    pub fn open(dir: &Path, config: &DistillConfig) -> Result<Self> {
        let folder = TextFolder::open(dir, true)?;
        let encoder = SentenceEncoder::new(&folder, config.pooling)?;
        let digest = folder.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
        Ok(Self { folder, encoder, digest, config: config.clone() })
    }
    /// Tokenises texts with the teacher's tokenizer under the settings' length and case.
    pub fn tokens(&self, texts: &[String]) -> Result<Tokens> {
        let c = &self.config;
        let most = c.max_tokens.min(self.folder.config.usable_positions());
        Tokens::new(&self.folder.tokenizer, texts, most, c.lower_case)
    }
    /// Digest of what the vectors of these tokens depend on: weights, pooling, tokens.
    pub fn key(&self, tokens: &Tokens) -> String {
        let mut bytes = format!("{}/{:?}/", self.digest, self.config.pooling).into_bytes();
        for i in 0..tokens.len() {
            tokens.row(i).iter().for_each(|t| bytes.extend_from_slice(&t.to_le_bytes()));
            bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        crate::fsio::sha256_bytes(&bytes)
    }
}
