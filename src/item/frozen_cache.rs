//! Cache of the output of an encoder's frozen layers for every item, computed once: in memory, or memory-mapped from a
//! file that several runs share.
//!
//! The file is a safetensors file with one tensor `prefix` (rows, width) in F32 or F16. Its name contains a digest of
//! everything the values depend on (tokens, frozen parameters, architecture, depth, precision). Other inputs give
//! another file name, so an outdated file is never read.

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

/// Depth to which an encoder is frozen, and the form of the cached rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrozenDepth {
    /// The whole encoder is frozen: one pooled row per item.
    Pooled,
    /// The embeddings and the first k blocks are frozen: one row per token.
    Blocks(usize),
    /// The whole encoder is frozen, with side towers: the pooled hidden states at the taps of the schedule and the last
    /// one, concatenated: one row per item.
    SideTower(TapSchedule),
    /// The whole encoder is frozen, with a K-Adapter: the hidden states at the taps of the schedule and the last one,
    /// concatenated: one row per token.
    KAdapter(TapSchedule),
}

/// The positions (taps) at which hidden states are read: after `first` blocks, and after every further `every` blocks,
/// before the last block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TapSchedule {
    /// Number of blocks before the first tap.
    pub first: usize,
    /// Number of blocks between two taps.
    pub every: usize,
}

impl FrozenDepth {
    /// Identifies the depth in the digest of a cache file; does not change between versions.
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
    /// Numbers of blocks, out of `blocks`, after which a hidden state is read; the last hidden state is read in
    /// addition.
    pub fn taps(self, blocks: usize) -> Vec<usize> {
        (self.first..blocks).step_by(self.every).collect()
    }
}

enum Values {
    Memory(Vec<f32>),
    File { map: Mmap, at: usize, precision: Precision },
}

/// Cached rows of every item of a catalogue.
#[derive(Clone)]
pub struct FrozenCache {
    depth: FrozenDepth,
    width: usize,
    /// Index of each item's first row, followed by the total number of rows.
    offsets: Arc<Vec<usize>>,
    values: Arc<Values>,
    rounding: Option<RoundingError>,
}

impl std::fmt::Debug for FrozenCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FrozenCache({:?}, {} rows of {})", self.depth, self.offsets.last().unwrap_or(&0), self.width)
    }
}

/// Computes a frozen-layer cache: its shape, and the function that computes the rows of some items.
pub struct FrozenCacheBuilder<'a> {
    /// Depth to which the encoder is frozen.
    pub depth: FrozenDepth,
    /// Number of values per row.
    pub width: usize,
    /// Returns the number of rows of an item.
    pub rows: &'a dyn Fn(usize) -> usize,
    /// Number of items.
    pub count: usize,
    /// Computes the rows of some items, item by item.
    pub compute: &'a (dyn Fn(&[u32]) -> Result<Vec<f32>> + Sync),
    /// Device on which the rows are computed.
    pub device: &'a Device,
    /// Progress callback: (items done, all items).
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
    /// Computes all rows in item order, in batches bounded by `cost` (tokens per item), and passes them to `each`.
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
    /// Computes the cache into memory. `cost` returns the number of tokens of an item.
    pub fn in_memory(&self, cost: &dyn Fn(usize) -> usize) -> Result<FrozenCache> {
        let offsets = self.offsets();
        let mut all = Vec::with_capacity(offsets[self.count] * self.width);
        self.each(cost, |rows| {
            all.extend_from_slice(&rows);
            Ok(())
        })?;
        Ok(self.finish(offsets, Values::Memory(all)))
    }
    /// Opens the cache file; computes and writes it first if it does not exist. `cost` returns the number of tokens of
    /// an item.
    pub fn in_file(&self, path: &Path, precision: Precision, cost: &dyn Fn(usize) -> usize) -> Result<FrozenCache> {
        let offsets = self.offsets();
        let (total, notes) = (offsets[self.count], path.with_extension("json"));
        let header =
            header(&Default::default(), &[("prefix", precision.label(), &[total, self.width], precision.bytes())]);
        if let Some(values) = open(path, &header, total * self.width * precision.bytes(), precision) {
            (self.on_progress)(self.count, self.count);
            // Mark the file as recently used, so that it is pruned last.
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

/// Opens a file that has exactly this header and this number of value bytes; returns `None` for any other file.
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
    /// Depth to which the cached encoder is frozen.
    pub fn depth(&self) -> FrozenDepth {
        self.depth
    }
    /// Rounding error of the cached values, if they are stored in F16.
    pub fn rounding(&self) -> Option<RoundingError> {
        self.rounding
    }
    /// Number of values per row.
    pub fn width(&self) -> usize {
        self.width
    }
    /// Number of rows of an item.
    pub fn rows_of(&self, item: usize) -> usize {
        self.offsets[item + 1] - self.offsets[item]
    }
    /// Packed rows of some items as a constant on a device, with their segments.
    pub fn rows(&self, items: &[u32], device: &Device) -> Result<(Act, Segments)> {
        let (rows, segments) = self.pack(items);
        Ok((Act::constant(Tensor::from_vec(rows, (segments.total(), self.width), device)?), segments))
    }
    /// Packed rows of some items as a vector, with their segments.
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

/// Deletes the least recently used frozen-layer caches in the data set folder `data` until they take at most `most`
/// bytes together; never deletes `current`. A deleted file stays readable to runs that have it open.
pub fn prune(data: &Path, current: &Path, most: u64) {
    let Ok(entries) = std::fs::read_dir(data.join(".cache")) else { return };
    let name = |p: &Path| p.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_string();
    let ours = |p: &Path| name(p).starts_with("prefix-") && name(p).ends_with(".safetensors");
    let entries: Vec<_> = entries.flatten().collect();
    // Unfinished files of killed processes; a process that still writes has modified its file within the last hour.
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

/// Error of rounding the values to F16.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct RoundingError {
    /// Largest absolute difference of a value.
    pub largest: f64,
    /// Norm of all differences divided by the norm of all values.
    pub relative: f64,
}

/// Path of the cache file with this digest, in the folder of the data set.
pub fn cache_path(data: &Path, digest: &str) -> PathBuf {
    data.join(".cache").join(format!("prefix-{}.safetensors", &digest[..24.min(digest.len())]))
}
