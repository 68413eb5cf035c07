//! What the frozen layers of an encoder make of every item, computed once: in memory, or memory-mapped from a file that
//! runs share.
//!
//! The file is a safetensors file with one tensor `prefix` (rows, width) in F32 or F16. Its name holds a digest of all
//! that goes into the values (tokens, frozen parameters, architecture, depth, precision): another input has another
//! file, so a stale one is never read.

use crate::error::{Error, Result};
use crate::fsio;
use crate::item::features::BATCH_TOKENS;
use crate::nn::weights::{Precision, header};
use crate::nn::{Act, Segments, lanes};
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far up an encoder is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All of it: one pooled row an item.
    Pooled,
    /// The embeddings and the first k blocks: one row a token.
    Blocks(usize),
    /// All of it, and what it says on the way: hidden states before block 0, every, 2·every, …, and the end, each pooled, side
    /// by side: one row an item.
    Side(usize),
    /// The same with every state of every token: one row a token.
    Knowledge(usize),
}

enum Values {
    Memory(Vec<f32>),
    File { map: Mmap, at: usize, precision: Precision },
}

/// Rows of every item of a catalogue.
#[derive(Clone)]
pub struct Prefix {
    depth: Depth,
    width: usize,
    /// First row of each item, and the number of rows.
    offsets: Arc<Vec<usize>>,
    values: Arc<Values>,
}

impl std::fmt::Debug for Prefix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prefix({:?}, {} rows of {})", self.depth, self.offsets.last().unwrap_or(&0), self.width)
    }
}

/// How to make a prefix: its shape, and the rows of a range of items.
pub struct Recipe<'a> {
    /// How deep.
    pub depth: Depth,
    /// Width of a row.
    pub width: usize,
    /// Rows of each item.
    pub rows: &'a dyn Fn(usize) -> usize,
    /// Number of items.
    pub count: usize,
    /// Rows of some items, one item after the other.
    pub compute: &'a (dyn Fn(&[u32]) -> Result<Vec<f32>> + Sync),
    /// Where it is computed.
    pub device: &'a Device,
    /// Told (items done, items in all).
    pub watch: &'a dyn Fn(usize, usize),
}

impl Recipe<'_> {
    fn offsets(&self) -> Vec<usize> {
        let mut at = 0;
        std::iter::once(0)
            .chain((0..self.count).map(|i| {
                at += (self.rows)(i);
                at
            }))
            .collect()
    }
    /// Items in order, in batches by what `cost` (tokens) says of each.
    fn each(&self, cost: &dyn Fn(usize) -> usize, mut each: impl FnMut(Vec<f32>) -> Result<()>) -> Result<()> {
        let (mut batches, mut batch, mut sum) = (vec![], vec![], 0);
        for i in 0..self.count {
            if !batch.is_empty() && sum + cost(i) > BATCH_TOKENS {
                batches.push(std::mem::take(&mut batch));
                sum = 0;
            }
            sum += cost(i);
            batch.push(i as u32);
        }
        batches.push(batch);
        let compute = self.compute;
        lanes::each(
            &batches,
            self.device,
            |ids| compute(ids),
            |k, rows| {
                let last = batches[k].last().map_or(0, |&i| i as usize + 1);
                if let Some(i) = rows.iter().position(|v| !v.is_finite()) {
                    return Err(Error::Numeric(format!(
                        "the encoder's output for the {} items up to number {last} holds {}: its weights are not usable",
                        batches[k].len(),
                        rows[i]
                    )));
                }
                each(rows)?;
                (self.watch)(last, self.count);
                Ok(())
            },
        )
    }
    /// Computes it into memory. `cost` of an item: its tokens.
    pub fn in_memory(&self, cost: &dyn Fn(usize) -> usize) -> Result<Prefix> {
        let offsets = self.offsets();
        let mut all = Vec::with_capacity(offsets[self.count] * self.width);
        self.each(cost, |rows| {
            all.extend_from_slice(&rows);
            Ok(())
        })?;
        Ok(self.finish(offsets, Values::Memory(all)))
    }
    /// Opens the file, or computes and writes it first.
    pub fn in_file(&self, path: &Path, precision: Precision, cost: &dyn Fn(usize) -> usize) -> Result<Prefix> {
        let offsets = self.offsets();
        let total = offsets[self.count];
        let header =
            header(&Default::default(), &[("prefix", precision.label(), &[total, self.width], precision.bytes())]);
        if let Some(values) = open(path, &header, total * self.width * precision.bytes(), precision) {
            (self.watch)(self.count, self.count);
            return Ok(self.finish(offsets, values));
        }
        fsio::write_atomic(path, |w| {
            let io = |e| Error::io(path)(e);
            w.write_all(&header).map_err(io)?;
            let mut bytes = vec![];
            self.each(cost, |rows| {
                bytes.clear();
                match precision {
                    Precision::F32 => rows.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
                    Precision::F16 => {
                        let half = |v: f32| half::f16::from_f32(v.clamp(-65504.0, 65504.0));
                        rows.iter().for_each(|&v| bytes.extend_from_slice(&half(v).to_le_bytes()));
                    }
                }
                w.write_all(&bytes).map_err(io)
            })
        })?;
        let values = open(path, &header, total * self.width * precision.bytes(), precision)
            .ok_or_else(|| Error::model(path, "just written, but not readable; is the disk full?"))?;
        Ok(self.finish(offsets, values))
    }
    fn finish(&self, offsets: Vec<usize>, values: Values) -> Prefix {
        Prefix { depth: self.depth, width: self.width, offsets: Arc::new(offsets), values: Arc::new(values) }
    }
}

/// A file of exactly this header and length; anything else is as good as none.
fn open(path: &Path, header: &[u8], bytes: usize, precision: Precision) -> Option<Values> {
    let file = File::open(path).ok()?;
    // SAFETY: the map is read-only; cache files are replaced by rename, never rewritten in place.
    let map = unsafe { Mmap::map(&file) }.ok()?;
    (map.len() == header.len() + bytes && map.starts_with(header)).then_some(Values::File {
        map,
        at: header.len(),
        precision,
    })
}

impl Prefix {
    /// How deep it goes.
    pub fn depth(&self) -> Depth {
        self.depth
    }
    /// Width of a row.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Rows of an item.
    pub fn rows_of(&self, item: usize) -> usize {
        self.offsets[item + 1] - self.offsets[item]
    }
    /// Rows of some items on a device, packed.
    pub fn rows(&self, items: &[u32], device: &Device) -> Result<(Act, Segments)> {
        let (rows, segments) = self.pack(items);
        Ok((Act::constant(Tensor::from_vec(rows, (segments.total(), self.width), device)?), segments))
    }
    /// Rows of some items, packed.
    pub fn pack(&self, items: &[u32]) -> (Vec<f32>, Segments) {
        let segments = Segments::from_lengths(items.iter().map(|&i| self.rows_of(i as usize)));
        let d = self.width;
        let mut out = Vec::with_capacity(segments.total() * d);
        for &i in items {
            let range = self.offsets[i as usize] * d..self.offsets[i as usize + 1] * d;
            match &*self.values {
                Values::Memory(all) => out.extend_from_slice(&all[range]),
                Values::File { map, at, precision } => {
                    let n = precision.bytes();
                    let bytes = &map[at + range.start * n..at + range.end * n];
                    match precision {
                        Precision::F32 => {
                            out.extend(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])));
                        }
                        Precision::F16 => {
                            out.extend(bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()));
                        }
                    }
                }
            }
        }
        (out, segments)
    }
}

/// Where the prefix of this digest lies below a data set's folder.
pub fn place(data: &Path, digest: &str) -> PathBuf {
    data.join(".cache").join(format!("prefix-{}.safetensors", &digest[..24.min(digest.len())]))
}
