//! Token ids of a catalogue's texts.

use crate::error::{Error, Result};
use crate::nn::Segments;
use rayon::prelude::*;
use tokenizers::Tokenizer;

/// Token ids of many texts, packed.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    offsets: Vec<usize>,
    ids: Vec<u32>,
}

impl Tokens {
    /// Tokenises each text, adds special tokens and truncates to `max_tokens`.
    pub fn new(
        tokenizer: &Tokenizer,
        texts: &[impl AsRef<str> + Sync],
        max_tokens: usize,
        lower_case: bool,
    ) -> Result<Self> {
        let mut tokenizer = tokenizer.clone();
        let cut = tokenizers::TruncationParams { max_length: max_tokens, ..Default::default() };
        tokenizer.with_truncation(Some(cut)).map_err(|e| Error::config("item.max_tokens", e.to_string()))?;
        tokenizer.with_padding(None);
        let rows: Vec<Vec<u32>> = texts
            .par_iter()
            .map(|t| {
                let t = t.as_ref();
                let text = if lower_case { std::borrow::Cow::Owned(t.to_lowercase()) } else { t.into() };
                tokenizer.encode_fast(text.as_ref(), true).map(|e| e.get_ids().to_vec()).map_err(|e| e.to_string())
            })
            .collect::<std::result::Result<_, _>>()
            .map_err(|e| Error::model("tokenizer.json", format!("tokenising failed: {e}")))?;
        if let Some(i) = rows.iter().position(Vec::is_empty) {
            let m = format!("text {i} has no token, not even a special one; the tokenizer.json lacks a post-processor");
            return Err(Error::model("tokenizer.json", m));
        }
        let mut out = Self { offsets: vec![0], ids: Vec::with_capacity(rows.iter().map(Vec::len).sum()) };
        for r in &rows {
            out.ids.extend_from_slice(r);
            out.offsets.push(out.ids.len());
        }
        Ok(out)
    }
    /// Builds the tokens from one row of ids per text.
    pub fn from_rows(rows: &[Vec<u32>]) -> Self {
        let mut out = Self { offsets: vec![0], ids: vec![] };
        for r in rows {
            out.ids.extend_from_slice(r);
            out.offsets.push(out.ids.len());
        }
        out
    }
    /// Builds the tokens from all ids and the length of each text; `None` if the lengths do not add up to the number of
    /// ids.
    pub fn from_parts(ids: Vec<u32>, lengths: &[u32]) -> Option<Self> {
        let mut at = 0;
        let offsets: Vec<usize> = std::iter::once(0)
            .chain(lengths.iter().map(|&l| {
                at += l as usize;
                at
            }))
            .collect();
        (at == ids.len()).then_some(Self { offsets, ids })
    }
    /// Ids of all texts, one text after the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
    /// Whether there are no texts.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Ids of text `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        &self.ids[self.offsets[i]..self.offsets[i + 1]]
    }
    /// Packed tokens of some texts: ids, and the segments with the length of each text.
    pub fn pack(&self, which: &[u32]) -> (Vec<u32>, Segments) {
        let mut ids = vec![];
        which.iter().for_each(|&i| ids.extend_from_slice(self.row(i as usize)));
        (ids, Segments::from_lengths(which.iter().map(|&i| self.row(i as usize).len())))
    }
    /// Digest of all ids and of the offsets of the texts.
    pub fn digest(&self) -> String {
        let mut bytes = Vec::with_capacity(4 * (self.ids.len() + self.offsets.len()) + 8);
        self.offsets.iter().for_each(|&o| bytes.extend_from_slice(&(o as u64).to_le_bytes()));
        self.ids.iter().for_each(|i| bytes.extend_from_slice(&i.to_le_bytes()));
        crate::fsio::sha256_bytes(&bytes)
    }
    /// Total number of tokens.
    pub fn total(&self) -> usize {
        self.ids.len()
    }
}
