//! Content of a catalogue, prepared once: token ids, or the output of a frozen encoder.

use crate::error::{Error, Result};
use crate::item::image::Pixels;
use crate::item::{Depth, Modality, Prefix};
use crate::nn::{Segments, lanes};
use candle_core::Device;
use rayon::prelude::*;
use std::sync::Arc;
use tokenizers::Tokenizer;

/// Token ids of many texts, packed.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    offsets: Vec<usize>,
    ids: Vec<u32>,
}

impl Tokens {
    /// Tokenises each text once, special tokens included, cut to `max_tokens`.
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
    /// From rows of ids.
    pub fn from_rows(rows: &[Vec<u32>]) -> Self {
        let mut out = Self { offsets: vec![0], ids: vec![] };
        for r in rows {
            out.ids.extend_from_slice(r);
            out.offsets.push(out.ids.len());
        }
        out
    }
    /// From all ids and the length of each text; nothing where these do not fit.
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
    /// Ids of all texts, one after the other.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }
    /// Number of texts.
    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }
    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Ids of text `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        &self.ids[self.offsets[i]..self.offsets[i + 1]]
    }
    /// Tokens of some texts packed: ids, and the length of each.
    pub fn pack(&self, which: &[u32]) -> (Vec<u32>, Segments) {
        let mut ids = vec![];
        which.iter().for_each(|&i| ids.extend_from_slice(self.row(i as usize)));
        (ids, Segments::from_lengths(which.iter().map(|&i| self.row(i as usize).len())))
    }
    /// Digest of all ids and where each text begins.
    pub fn digest(&self) -> String {
        let mut bytes = Vec::with_capacity(4 * (self.ids.len() + self.offsets.len()) + 8);
        self.offsets.iter().for_each(|&o| bytes.extend_from_slice(&(o as u64).to_le_bytes()));
        self.ids.iter().for_each(|i| bytes.extend_from_slice(&i.to_le_bytes()));
        crate::fsio::sha256_bytes(&bytes)
    }
    /// All tokens.
    pub fn total(&self) -> usize {
        self.ids.len()
    }
}

/// Tokens a batch holds at most (one text may hold more); each thread works on a batch of its own.
pub const BATCH_TOKENS: usize = 2 * 1024;
/// Items a batch holds at most.
const BATCH_ITEMS: usize = 4096;

/// Splits items into batches of bounded size, longest texts first so that memory use is known early.
pub fn batches(count: usize, len: impl Fn(usize) -> usize) -> Vec<Vec<u32>> {
    let mut order: Vec<u32> = (0..count as u32).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(len(i as usize)));
    let (mut batches, mut batch, mut tokens) = (vec![], vec![], 0);
    for i in order {
        let l = len(i as usize);
        if !batch.is_empty() && (tokens + l > BATCH_TOKENS || batch.len() == BATCH_ITEMS) {
            batches.push(std::mem::take(&mut batch));
            tokens = 0;
        }
        tokens += l;
        batch.push(i);
    }
    if !batch.is_empty() {
        batches.push(batch);
    }
    batches
}

/// (count, width) rows of all items, computed in batches: on a CPU a batch a thread. `len` of an item: its tokens;
/// `watch(done, all)` is told after each batch.
pub fn rows(
    count: usize,
    width: usize,
    len: impl Fn(usize) -> usize,
    device: &Device,
    compute: impl Fn(&[u32]) -> Result<Vec<f32>> + Sync,
    watch: &dyn Fn(usize, usize),
) -> Result<Vec<f32>> {
    let (mut out, mut done) = (vec![0f32; count * width], 0);
    let batches = batches(count, len);
    let one = |batch: &Vec<u32>| compute(batch);
    lanes::each(&batches, device, one, |k, rows| {
        for (row, &i) in rows.chunks_exact(width).zip(&batches[k]) {
            out[i as usize * width..][..width].copy_from_slice(row);
        }
        done += batches[k].len();
        watch(done, count);
        Ok(())
    })?;
    Ok(out)
}

/// Which modalities of an item count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Has {
    /// Its text.
    pub text: bool,
    /// Its picture.
    pub image: bool,
}

/// What is known of each item of a catalogue, by candidate index.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// Number of items.
    pub count: usize,
    /// Their texts' tokens.
    pub tokens: Option<Tokens>,
    /// What the frozen part of the text encoder made of them.
    pub prefix: Option<Prefix>,
    /// Their pictures.
    pub pixels: Option<Pixels>,
    /// What the frozen part of the image encoder made of them.
    pub image_prefix: Option<Prefix>,
    /// Which modalities of an item count, where a model reads both; absent: whatever there is.
    pub has: Option<Arc<Vec<Has>>>,
}

impl Features {
    /// Whether an item has a picture that counts.
    pub fn has_image(&self, item: usize) -> bool {
        self.has.as_ref().is_none_or(|h| h[item].image) && self.pixels.as_ref().is_some_and(|p| p.has(item))
    }
    /// Whether an item has a text that counts.
    pub fn has_text(&self, item: usize) -> bool {
        self.has.as_ref().is_none_or(|h| h[item].text)
    }
    /// What is kept of a modality's frozen part.
    pub fn kept(&self, modality: Modality) -> Option<&Prefix> {
        match modality {
            Modality::Text => self.prefix.as_ref(),
            Modality::Image => self.image_prefix.as_ref(),
        }
    }
    /// Keeps it.
    pub fn keep(&mut self, modality: Modality, prefix: Prefix) {
        match modality {
            Modality::Text => self.prefix = Some(prefix),
            Modality::Image => self.image_prefix = Some(prefix),
        }
    }
    /// What an item costs to encode, in tokens.
    pub fn cost(&self, item: usize) -> usize {
        let kept = |p: &Prefix| match p.depth() {
            // Several hidden states side by side, and as many layers over them.
            Depth::Side(_) => 8,
            _ => p.rows_of(item),
        };
        let text = match (&self.prefix, &self.tokens) {
            (Some(p), _) => kept(p),
            (None, Some(t)) => t.row(item).len(),
            _ => 0,
        };
        let image = match (&self.image_prefix, &self.pixels) {
            (Some(p), _) => kept(p),
            (None, Some(p)) if p.has(item) => crate::item::image::COST,
            _ => 0,
        };
        (text + image).max(1)
    }
}
