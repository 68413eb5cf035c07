//! The teacher's vectors of a corpus, computed once and kept.

use super::DistillConfig;
use crate::error::Result;
use crate::item::Tokens;
use crate::item::text::{SentenceEncoder, TextFolder};
use crate::nn::weights::{self, Weights};
use std::collections::BTreeMap;
use std::path::Path;

/// A teacher and its tokens.
pub struct Teacher {
    /// Its files.
    pub folder: TextFolder,
    /// Itself, frozen.
    pub encoder: SentenceEncoder,
    /// SHA-256 of its weights.
    pub digest: String,
    config: DistillConfig,
}

impl Teacher {
    /// Opens a folder with weights.
    pub fn open(dir: &Path, config: &DistillConfig) -> Result<Self> {
        let folder = TextFolder::open(dir, true)?;
        let encoder = SentenceEncoder::new(&folder, config.pooling)?;
        let digest = folder.weights.as_ref().map(|w| w.digest()).unwrap_or_default();
        Ok(Self { folder, encoder, digest, config: config.clone() })
    }
    /// Tokens as the teacher reads texts.
    pub fn tokens(&self, texts: &[String]) -> Result<Tokens> {
        let c = &self.config;
        let most = c.max_tokens.min(self.folder.config.usable_positions());
        Tokens::new(&self.folder.tokenizer, texts, most, c.lower_case)
    }
    /// Pooled vectors (n, width), from `file` if it holds those of exactly these tokens.
    pub fn vectors(&self, tokens: &Tokens, file: &Path, on_progress: &dyn Fn(usize, usize)) -> Result<Vec<f32>> {
        let key = self.key(tokens);
        let name = format!("vectors/{key}");
        let shape = vec![tokens.len(), self.encoder.width()];
        if file.exists()
            && let Ok(w) = Weights::open(file)
            && w.shape(&name) == Some(&shape)
        {
            return w.read(&name);
        }
        let all = self.encoder.encode(tokens, on_progress)?;
        weights::save(file, &[(name, shape, all.clone())], BTreeMap::new())?;
        Ok(all)
    }
    fn key(&self, tokens: &Tokens) -> String {
        let mut bytes = format!("{}/{:?}/", self.digest, self.config.pooling).into_bytes();
        for i in 0..tokens.len() {
            tokens.row(i).iter().for_each(|t| bytes.extend_from_slice(&t.to_le_bytes()));
            bytes.extend_from_slice(&u32::MAX.to_le_bytes());
        }
        crate::fsio::sha256_bytes(&bytes)
    }
}
