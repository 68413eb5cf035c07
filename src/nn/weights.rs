//! Weight files: one safetensors file, or several behind a Hugging Face index; memory-mapped and read as f32.

use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

struct Entry {
    file: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

/// A set of named tensors in one or more open files.
pub struct Weights {
    path: PathBuf,
    files: Vec<Arc<Mmap>>,
    entries: BTreeMap<String, Entry>,
}

impl Weights {
    /// Opens `model.safetensors` of a folder, or the shards listed in its `model.safetensors.index.json`.
    pub fn open_dir(dir: &Path) -> Result<Self> {
        let single = dir.join("model.safetensors");
        let index = dir.join("model.safetensors.index.json");
        if single.exists() {
            return Self::open(&single);
        }
        if !index.exists() {
            return Err(Error::model(
                dir,
                "no model.safetensors and no model.safetensors.index.json; convert other formats with \
                 transformers' save_pretrained(safe_serialization=True)",
            ));
        }
        #[derive(serde::Deserialize)]
        struct Index {
            weight_map: BTreeMap<String, String>,
        }
        let text = crate::fsio::read_model_text(&index)?;
        let parsed: Index =
            serde_json::from_str(&text).map_err(|e| Error::model(&index, format!("not a shard index: {e}")))?;
        let mut shards: Vec<&String> = parsed.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        let mut all = Self { path: index.clone(), files: vec![], entries: BTreeMap::new() };
        for shard in shards {
            if shard.contains(['/', '\\']) {
                return Err(Error::model(&index, format!("shard name `{shard}` leaves the folder")));
            }
            all.add(&dir.join(shard))?;
        }
        if let Some(missing) = parsed.weight_map.keys().find(|k| !all.entries.contains_key(*k)) {
            return Err(Error::model(&index, format!("tensor `{missing}` is in no shard; download the model again")));
        }
        Ok(all)
    }
    /// Opens one safetensors file.
    pub fn open(path: &Path) -> Result<Self> {
        let mut all = Self { path: path.into(), files: vec![], entries: BTreeMap::new() };
        all.add(path)?;
        Ok(all)
    }
    fn add(&mut self, path: &Path) -> Result<()> {
        let file = crate::fsio::open_regular(path).map_err(Error::model_io(path))?;
        // SAFETY: the map is read-only; model files are replaced by rename, never rewritten in place.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io(path))?;
        let bad = |e: safetensors::SafeTensorError| {
            Error::model(path, format!("not a whole safetensors file: {e}; download or write it again"))
        };
        let (header, meta) = SafeTensors::read_metadata(&map).map_err(bad)?;
        let data = header + 8;
        for (name, info) in meta.tensors() {
            let range = data + info.data_offsets.0..data + info.data_offsets.1;
            if range.end > map.len() {
                return Err(Error::model(path, format!("tensor `{name}` reaches past the end of the file: truncated")));
            }
            let entry = Entry { file: self.files.len(), dtype: info.dtype, shape: info.shape.clone(), range };
            if self.entries.insert(name.clone(), entry).is_some() {
                return Err(Error::model(path, format!("tensor `{name}` occurs twice")));
            }
        }
        self.files.push(Arc::new(map));
        Ok(())
    }
    /// Renames the tensors; those for which `name` returns `None` are left out. An error if two get the same name.
    pub fn renamed(mut self, name: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut entries = BTreeMap::new();
        for (old, entry) in std::mem::take(&mut self.entries) {
            if let Some(new) = name(&old)
                && entries.insert(new.clone(), entry).is_some()
            {
                return Err(Error::model(&self.path, format!("two tensors are `{new}`")));
            }
        }
        Ok(Self { entries, ..self })
    }
    /// Adds the tensors of `base` whose names are not in this set.
    pub fn overlay(mut self, base: &Self) -> Self {
        let first = self.files.len();
        self.files.extend(base.files.iter().cloned());
        for (name, e) in &base.entries {
            let moved =
                || Entry { file: e.file + first, dtype: e.dtype, shape: e.shape.clone(), range: e.range.clone() };
            self.entries.entry(name.clone()).or_insert_with(moved);
        }
        self
    }
    /// Path of the file (or index) it was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// One digest over the contents of all files.
    pub fn digest(&self) -> String {
        let all: Vec<String> = self.files.iter().map(|f| crate::fsio::sha256_bytes(f)).collect();
        crate::fsio::sha256_bytes(all.join("\n").as_bytes())
    }
    /// Names of the tensors in sorted order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }
    /// Shape of a tensor, or `None` if there is no such tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.entries.get(name).map(|e| e.shape.as_slice())
    }
    /// Reads a tensor's elements as f32, converting from F64, F16 or BF16.
    pub fn read(&self, name: &str) -> Result<Vec<f32>> {
        Ok(self.stored(name)?.read())
    }
    /// Reference to a tensor in its file, to be read later. An error if it is missing or not a float type.
    pub fn stored(&self, name: &str) -> Result<StoredTensor> {
        let e = self.entries.get(name).ok_or_else(|| Error::model(&self.path, format!("no tensor `{name}`")))?;
        if ![Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64].contains(&e.dtype) {
            let m = format!("tensor `{name}` is {:?}; expected F32, F16 or BF16", e.dtype);
            return Err(Error::model(&self.path, m));
        }
        let (map, shape) = (self.files[e.file].clone(), e.shape.clone());
        Ok(StoredTensor { map, dtype: e.dtype, shape, range: e.range.clone() })
    }
    /// Reads the integers of an I64 tensor (used by golden files).
    pub fn read_i64(&self, name: &str) -> Result<Vec<i64>> {
        let e = self.entries.get(name).ok_or_else(|| Error::model(&self.path, format!("no tensor `{name}`")))?;
        if e.dtype != Dtype::I64 {
            return Err(Error::model(&self.path, format!("tensor `{name}` is {:?}, expected I64", e.dtype)));
        }
        let bytes = &self.files[e.file][e.range.clone()];
        Ok(bytes
            .chunks_exact(8)
            .map(|b| i64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect())
    }
    /// Reads a tensor to a device.
    pub fn tensor(&self, name: &str, device: &Device) -> Result<Tensor> {
        let data = self.read(name)?;
        let shape = self.shape(name).unwrap_or_default().to_vec();
        Ok(Tensor::from_vec(data, shape, device)?)
    }
}

/// A tensor in its file, not yet read.
pub struct StoredTensor {
    map: Arc<Mmap>,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

impl StoredTensor {
    /// Shape of the tensor.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Reads the elements as f32. The file's memory pages are released, because the caller has a copy.
    pub fn read(&self) -> Vec<f32> {
        let bytes = &self.map[self.range.clone()];
        let values = match self.dtype {
            Dtype::F16 => bytes.chunks_exact(2).map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::BF16 => bytes.chunks_exact(2).map(|b| half::bf16::from_le_bytes([b[0], b[1]]).to_f32()).collect(),
            Dtype::F64 => bytes
                .chunks_exact(8)
                .map(|b| f64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]) as f32)
                .collect(),
            _ => bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
        };
        self.release();
        values
    }
    /// SHA-256 of the elements as little-endian F32.
    pub fn digest(&self) -> String {
        if self.dtype == Dtype::F32 {
            let digest = crate::fsio::sha256_bytes(&self.map[self.range.clone()]);
            self.release();
            return digest;
        }
        let bytes: Vec<u8> = self.read().iter().flat_map(|v| v.to_le_bytes()).collect();
        crate::fsio::sha256_bytes(&bytes)
    }
    fn release(&self) {
        #[cfg(unix)]
        // SAFETY: these are pages of a read-only map of a file that is never rewritten; reading them again gives the
        // same bytes.
        unsafe {
            let advice = memmap2::UncheckedAdvice::DontNeed;
            self.map.unchecked_advise_range(advice, self.range.start, self.range.len()).ok();
        }
    }
}

/// Header of a safetensors file with these tensors (name, data type, shape, bytes per element); their elements must
/// follow in the same order.
pub fn header(meta: &BTreeMap<String, String>, tensors: &[(&str, &str, &[usize], usize)]) -> Vec<u8> {
    let (mut all, mut at) = (serde_json::Map::new(), 0);
    if !meta.is_empty() {
        all.insert("__metadata__".into(), serde_json::json!(meta));
    }
    for (name, dtype, shape, bytes) in tensors {
        let end = at + bytes * shape.iter().product::<usize>();
        all.insert((*name).into(), serde_json::json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = serde_json::Value::Object(all).to_string();
    text.push_str(&" ".repeat(text.len().next_multiple_of(8) - text.len()));
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// Writes named f32 arrays and string metadata as one safetensors file, atomically.
pub fn save(path: &Path, tensors: &[(String, Vec<usize>, Vec<f32>)], meta: BTreeMap<String, String>) -> Result<()> {
    let entries: Vec<Named> = tensors.iter().map(|(n, s, _)| (n.clone(), s.clone())).collect();
    save_each(path, &entries, meta, |i| Ok(Cow::Borrowed(tensors[i].2.as_slice())))
}

/// Metadata `format: pt`, which PyTorch's tools expect.
pub fn pytorch_metadata() -> BTreeMap<String, String> {
    BTreeMap::from([("format".to_string(), "pt".to_string())])
}

/// Name and shape of a tensor to write.
pub type Named = (String, Vec<usize>);

/// As [`save`], but requests the elements of one tensor at a time, so that no second copy of the model is in memory.
pub fn save_each<'a>(
    path: &Path,
    entries: &[Named],
    meta: BTreeMap<String, String>,
    data: impl FnMut(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    save_each_as(path, entries, meta, Precision::F32, data)
}

/// Number format of written tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32-bit floats: 4 bytes, exact.
    F32,
    /// 16-bit floats: 2 bytes, rounded to nearest; a value beyond ±65504 is an error.
    F16,
}

impl Precision {
    /// Bytes per number.
    pub fn bytes(self) -> usize {
        if self == Self::F16 { 2 } else { 4 }
    }
    /// Name of the data type in safetensors files.
    pub fn label(self) -> &'static str {
        if self == Self::F16 { "F16" } else { "F32" }
    }
}

/// As [`save_each`], in the given number format.
pub fn save_each_as<'a>(
    path: &Path,
    entries: &[Named],
    meta: BTreeMap<String, String>,
    precision: Precision,
    mut data: impl FnMut(usize) -> Result<Cow<'a, [f32]>>,
) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    if let Some((name, _)) = entries.iter().find(|(name, _)| !seen.insert(name)) {
        return Err(Error::model(path, format!("two tensors are called `{name}`")));
    }
    let (label, bytes) = (precision.label(), precision.bytes());
    let tensors: Vec<_> = entries.iter().map(|(n, shape)| (n.as_str(), label, shape.as_slice(), bytes)).collect();
    let header = header(&meta, &tensors);
    crate::fsio::write_atomic(path, |w| {
        let io = |e| Error::io(path)(e);
        w.write_all(&header).map_err(io)?;
        let mut bytes = Vec::new();
        for (i, (name, shape)) in entries.iter().enumerate() {
            let values = data(i)?;
            if values.len() != shape.iter().product::<usize>() {
                return Err(Error::model(path, format!("`{name}` has {} values for shape {shape:?}", values.len())));
            }
            for part in values.chunks(64 * 1024) {
                bytes.clear();
                match precision {
                    Precision::F32 => part.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes())),
                    Precision::F16 => {
                        if let Some(v) = part.iter().find(|v| !half::f16::from_f32(**v).is_finite()) {
                            return Err(Error::model(path, format!("`{name}` holds {v}, which F16 cannot; write F32")));
                        }
                        part.iter().for_each(|v| bytes.extend_from_slice(&half::f16::from_f32(*v).to_le_bytes()));
                    }
                }
                w.write_all(&bytes).map_err(io)?;
            }
        }
        Ok(())
    })
}
