//! Images of a data set, decoded and resized once for an encoder: a memory-mapped file of bytes that several runs
//! share.
//!
//! Images are stored one after the other, `side · side · 3` bytes each, in the order of `images.parquet`. The file's
//! name contains a digest of the images and of their preprocessing. The file is written under a temporary name; after
//! an interruption, writing continues where it stopped.

use crate::data::ImageFile;
use crate::error::{DataError, Error, Result};
use crate::fsio;
use crate::picture::{Preprocess, decode};
use memmap2::Mmap;
use rayon::prelude::*;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

/// Cost of encoding an image, in tokens, for the size of batches.
pub const COST: usize = 256;

/// Number of images decoded per batch.
const BATCH: usize = 256;

enum Bytes {
    Memory(Vec<u8>),
    File(Mmap),
    Empty,
}

/// All images of a data set at one size.
#[derive(Clone)]
pub struct PixelStore {
    bytes: Arc<Bytes>,
    side: usize,
    count: usize,
    table: Arc<[[f32; 256]; 3]>,
    digest: String,
}

/// Digest of a data set's images under this preprocessing.
fn digest(file: &ImageFile, pre: &Preprocess) -> String {
    let (w, h) = pre.output();
    let key = format!("morec pixels 1 {} {w}×{h} {:?} {} {:?}", file.digest(), pre.size, pre.shortest, pre.filter);
    fsio::sha256_bytes(key.as_bytes())
}

fn square(pre: &Preprocess) -> Result<usize> {
    match pre.output() {
        (w, h) if w == h => Ok(w),
        (w, h) => {
            Err(Error::config("item.image.model", format!("its pictures are {w}×{h}; only squares are known here")))
        }
    }
}

impl PixelStore {
    /// Opens the store of a data set's images in the folder `.cache` of `data`, or creates it first. If the folder
    /// cannot be written, the images are kept in memory. `on_progress` is called with (done, all).
    pub fn open(
        file: &ImageFile,
        data: Option<&Path>,
        pre: &Preprocess,
        on_progress: &dyn Fn(usize, usize),
    ) -> Result<Self> {
        let (side, count, name) = (square(pre)?, file.count(), digest(file, pre));
        let made =
            |bytes| Self { bytes: Arc::new(bytes), side, count, table: Arc::new(pre.table()), digest: name.clone() };
        if count == 0 {
            return Ok(made(Bytes::Empty));
        }
        let whole = (count * 3 * side * side) as u64;
        let room = |dir: &Path| crate::hub::disk_free(dir).is_none_or(|free| whole <= free / 2);
        if let Some(data) = data {
            let path = data.join(".cache").join(format!("pixels-{}.u8", &name[..24]));
            if std::fs::metadata(&path).is_ok_and(|m| m.len() == whole) {
                return Ok(made(Bytes::File(map(&path)?)));
            }
            if !room(data) {
                let m = format!("{} MB of decoded pictures need more than half of the free disk", whole >> 20);
                return Err(Error::Io { path: data.into(), source: std::io::Error::other(m + "; make room") });
            }
            match grow(file, &path, pre, on_progress) {
                Ok(()) => return Ok(made(Bytes::File(map(&path)?))),
                // A read-only or full disk must not stop training, but an incomplete file must not keep the disk full.
                Err(Error::Io { path: at, source }) if at.starts_with(data.join(".cache")) => {
                    if source.kind() == std::io::ErrorKind::StorageFull {
                        std::fs::remove_file(&at).map_err(Error::io(&at))?;
                    }
                }
                Err(e) => return Err(e),
            }
        }
        let mut all = Vec::with_capacity(count * 3 * side * side);
        file.each(0, BATCH, |from, batch| {
            prepare(file, pre, from, &batch)?.iter().for_each(|p| all.extend_from_slice(p));
            on_progress(from + batch.len(), count);
            Ok(())
        })?;
        Ok(made(Bytes::Memory(all)))
    }
    /// Store of images in memory, `side · side · 3` bytes each.
    pub fn in_memory(pictures: Vec<u8>, side: usize, pre: &Preprocess) -> Self {
        let count = pictures.len() / (3 * side * side);
        let digest = fsio::sha256_bytes(&pictures);
        Self { bytes: Arc::new(Bytes::Memory(pictures)), side, count, table: Arc::new(pre.table()), digest }
    }
    fn record(&self, i: usize) -> &[u8] {
        let all: &[u8] = match &*self.bytes {
            Bytes::Memory(v) => v,
            Bytes::File(m) => m,
            Bytes::Empty => &[],
        };
        let per = 3 * self.side * self.side;
        &all[i * per..(i + 1) * per]
    }
}

fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).map_err(Error::io(path))?;
    // SAFETY: the map is read-only; cache files are replaced by rename, never rewritten in place.
    unsafe { Mmap::map(&file) }.map_err(Error::io(path))
}

fn prepare(file: &ImageFile, pre: &Preprocess, from: usize, batch: &[Vec<u8>]) -> Result<Vec<Vec<u8>>> {
    batch
        .par_iter()
        .enumerate()
        .map(|(i, bytes)| match decode(bytes) {
            Ok(picture) => Ok(pre.apply(&picture).data),
            Err(fault) => {
                let e = DataError::new(file.path(), format!("row {}: the picture {fault}", from + i));
                Err(e.remedy("import the data set again, which leaves broken pictures out").into())
            }
        })
        .collect()
}

fn grow(file: &ImageFile, path: &Path, pre: &Preprocess, on_progress: &dyn Fn(usize, usize)) -> Result<()> {
    let (side, count) = (square(pre)?, file.count());
    let per = (3 * side * side) as u64;
    let partial = path.with_extension("partial");
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    }
    let io = |e| Error::io(&partial)(e);
    let out = OpenOptions::new().create(true).truncate(false).write(true).open(&partial).map_err(io)?;
    // Another process may be writing the file: wait for its lock, then check whether the file is complete.
    if let Err(e) = out.lock()
        && e.kind() != std::io::ErrorKind::Unsupported
    {
        return Err(io(e));
    }
    if std::fs::metadata(path).is_ok_and(|m| m.len() == per * count as u64) {
        return Ok(());
    }
    let done = (out.metadata().map_err(io)?.len() / per).min(count as u64);
    out.set_len(done * per).map_err(io)?;
    let mut out = BufWriter::new(out);
    out.seek(SeekFrom::End(0)).map_err(io)?;
    file.each(done as usize, BATCH, |from, batch| {
        for p in prepare(file, pre, from, &batch)? {
            out.write_all(&p).map_err(io)?;
        }
        on_progress(from + batch.len(), count);
        Ok(())
    })?;
    let out = out.into_inner().map_err(|e| io(e.into_error()))?;
    out.sync_all().map_err(io)?;
    std::fs::rename(&partial, path).map_err(Error::io(path))
}

/// Images by candidate index.
#[derive(Clone)]
pub struct Pixels {
    store: PixelStore,
    /// Index of each candidate's image in the store.
    place: Arc<Vec<Option<u32>>>,
}

impl std::fmt::Debug for Pixels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pixels({} of {}×{})", self.place.len(), self.store.side, self.store.side)
    }
}

impl Pixels {
    /// `place` contains the index of each candidate's image in the store.
    pub fn new(store: PixelStore, place: Vec<Option<u32>>) -> Self {
        debug_assert!(place.iter().flatten().all(|&r| (r as usize) < store.count));
        Self { store, place: Arc::new(place) }
    }
    /// Side length of the images, in pixels.
    pub fn side(&self) -> usize {
        self.store.side
    }
    /// For each channel the number that each byte value maps to.
    pub fn table(&self) -> &[[f32; 256]; 3] {
        &self.store.table
    }
    /// Bytes of a candidate's image, if it has one.
    pub fn get(&self, item: usize) -> Option<&[u8]> {
        self.place[item].map(|r| self.store.record(r as usize))
    }
    /// Whether a candidate has an image.
    pub fn has(&self, item: usize) -> bool {
        self.place[item].is_some()
    }
    /// Digest of everything that the pixel values depend on.
    pub fn digest(&self) -> String {
        fsio::sha256_bytes(format!("{} {:?} {:?}", self.store.digest, self.store.table, self.place).as_bytes())
    }
}
