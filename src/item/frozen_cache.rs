//! What the frozen layers of an encoder make of every item, computed once: in memory, or memory-mapped from a file that
//! runs share.
//!
//! The file is a safetensors file with one tensor `prefix` (rows, width) in F32 or F16. Its name holds a digest of all
//! that goes into the values (tokens, frozen parameters, architecture, depth, precision): another input has another
//! file, so a stale one is never read.

use crate::error::{Error, Result};
use crate::fsio;
use crate::item::BATCH_TOKENS;
use crate::nn::weights::{Precision, header};
use crate::nn::{Act, Segments, parallel};
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far up an encoder is frozen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrozenDepth {
    /// All of it: one pooled row an item.
    Pooled,
    /// The embeddings and the first k blocks: one row a token.
    Blocks(usize),
    /// All of it, and what it says on the way: hidden states before block 0, every, 2·every, …, and the end, each pooled, side
    /// by side: one row an item.
    SideTower(TapSchedule),
    /// The same with every state of every token: one row a token.
    KAdapter(TapSchedule),
}

/// After `first` blocks, and every so many from there, below the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapSchedule {
    /// Blocks below the first tap.
    pub first: usize,
    /// Blocks between two.
    pub every: usize,
}

impl FrozenDepth {
    /// Its part of a cache file's digest; stable between versions.
    pub fn cache_key(self) -> String {
        let taps = |t: TapSchedule| format!("Heights {{ first: {}, every: {} }}", t.first, t.every);
        match self {
            Self::Pooled => "Pooled".into(),
            Self::Blocks(k) => format!("Blocks({k})"),
            Self::SideTower(t) => format!("Side({})", taps(t)),
            Self::KAdapter(t) => format!("Knowledge({})", taps(t)),
        }
    }
}

impl TapSchedule {
    /// The numbers of blocks, of `blocks`, after which a hidden state is read; the last hidden state comes on top.
    pub fn taps(self, blocks: usize) -> Vec<usize> {
        (self.first..blocks).step_by(self.every).collect()
    }
}

enum Values {
    Memory(Vec<f32>),
    File { map: Mmap, at: usize, precision: Precision },
}

/// Rows of every item of a catalogue.
#[derive(Clone)]
pub struct FrozenCache {
    depth: FrozenDepth,
    width: usize,
    /// First row of each item, and the number of rows.
    offsets: Arc<Vec<usize>>,
    values: Arc<Values>,
    rounding: Option<RoundingError>,
}

impl std::fmt::Debug for FrozenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrozenCache({:?}, {} rows of {})", self.depth, self.offsets.last().unwrap_or(&0), self.width)
    }
}

/// How to make a prefix: its shape, and the rows of a range of items.
pub struct FrozenCacheBuilder<'a> {
    /// How deep.
    pub depth: FrozenDepth,
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
    pub on_progress: &'a dyn Fn(usize, usize),
}

impl FrozenCacheBuilder<'_> {
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
        parallel::map_in_order(
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
                (self.on_progress)(last, self.count);
                Ok(())
            },
        )
    }
    /// Computes it into memory. `cost` of an item: its tokens.
    pub fn in_memory(&self, cost: &dyn Fn(usize) -> usize) -> Result<FrozenCache> {
        let offsets = self.offsets();
        let mut all = Vec::with_capacity(offsets[self.count] * self.width);
        self.each(cost, |rows| {
            all.extend_from_slice(&rows);
            Ok(())
        })?;
        Ok(self.finish(offsets, Values::Memory(all)))
    }
    /// Opens the file, or computes and writes it first.
    pub fn in_file(&self, path: &Path, precision: Precision, cost: &dyn Fn(usize) -> usize) -> Result<FrozenCache> {
        let offsets = self.offsets();
        let (total, notes) = (offsets[self.count], path.with_extension("json"));
        let header =
            header(&Default::default(), &[("prefix", precision.label(), &[total, self.width], precision.bytes())]);
        if let Some(values) = open(path, &header, total * self.width * precision.bytes(), precision) {
            (self.on_progress)(self.count, self.count);
            // Used now: the last to be pruned.
            File::options().append(true).open(path).and_then(|f| f.set_modified(std::time::SystemTime::now())).ok();
            let rounding = fsio::read_text(&notes).ok().and_then(|t| serde_json::from_str(&t).ok());
            return Ok(FrozenCache { rounding, ..self.finish(offsets, values) });
        }
        let (mut largest, mut off, mut norm) = (0f64, 0f64, 0f64);
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
                        for &v in &rows {
                            let h = half(v);
                            let d = f64::from(h.to_f32()) - f64::from(v);
                            (largest, off, norm) = (largest.max(d.abs()), off + d * d, norm + f64::from(v).powi(2));
                            bytes.extend_from_slice(&h.to_le_bytes());
                        }
                    }
                }
                w.write_all(&bytes).map_err(io)
            })
        })?;
        let values = open(path, &header, total * self.width * precision.bytes(), precision)
            .ok_or_else(|| Error::model(path, "just written, but not readable; is the disk full?"))?;
        let rounding = (precision == Precision::F16)
            .then(|| RoundingError { largest, relative: (off / norm.max(f64::MIN_POSITIVE)).sqrt() });
        if let Some(r) = &rounding {
            fsio::write_json(&notes, r)?;
        }
        Ok(FrozenCache { rounding, ..self.finish(offsets, values) })
    }
    fn finish(&self, offsets: Vec<usize>, values: Values) -> FrozenCache {
        let (offsets, values) = (Arc::new(offsets), Arc::new(values));
        FrozenCache { depth: self.depth, width: self.width, offsets, values, rounding: None }
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

impl FrozenCache {
    /// How deep it goes.
    pub fn depth(&self) -> FrozenDepth {
        self.depth
    }
    /// What rounding did to it, where it is kept in F16.
    pub fn rounding(&self) -> Option<RoundingError> {
        self.rounding
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

/// Removes the files used longest ago until all together are no larger than `most` bytes; never `current`. What another run still
/// reads stays readable to it.
pub fn prune(data: &Path, current: &Path, most: u64) {
    let Ok(entries) = std::fs::read_dir(data.join(".cache")) else { return };
    let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
    let ours = |p: &Path| name(p).starts_with("prefix-") && name(p).ends_with(".safetensors");
    let entries: Vec<_> = entries.flatten().collect();
    // What a process that was killed had not finished; one that writes still does so within the hour.
    let hour = std::time::Duration::from_secs(3600);
    let old = |e: &std::fs::DirEntry| {
        e.metadata().ok().and_then(|m| m.modified().ok()?.elapsed().ok()).is_some_and(|t| t > hour)
    };
    for e in entries.iter().filter(|e| name(&e.path()).starts_with(".prefix-") && old(e)) {
        std::fs::remove_file(e.path()).ok();
    }
    let mut files: Vec<(std::time::SystemTime, u64, PathBuf)> = entries
        .iter()
        .filter(|e| ours(&e.path()))
        .filter_map(|e| e.metadata().ok().and_then(|m| Some((m.modified().ok()?, m.len(), e.path()))))
        .collect();
    files.sort();
    let mut total: u64 = files.iter().map(|f| f.1).sum();
    for (_, bytes, path) in files.iter().filter(|f| f.2 != current) {
        if total <= most {
            break;
        }
        std::fs::remove_file(path).ok();
        std::fs::remove_file(path.with_extension("json")).ok();
        total -= bytes;
    }
}

/// What rounding to F16 did to the values.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundingError {
    /// Largest difference of a value.
    pub largest: f64,
    /// Norm of all differences over the norm of all values.
    pub relative: f64,
}

/// Where the prefix of this digest lies below a data set's folder.
pub fn cache_path(data: &Path, digest: &str) -> PathBuf {
    data.join(".cache").join(format!("prefix-{}.safetensors", &digest[..24.min(digest.len())]))
}
