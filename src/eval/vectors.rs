//! Export of a catalogue's vectors to one file, computed in parts, so that an interrupted export resumes.
//!
//! Parts are stored in `<file>.partial/` with a digest of the export they belong to; the file itself is written
//! atomically at the end.

use crate::error::{Error, Result};
use crate::fsio;
use crate::nn::weights::{Precision, header};
use arrow::array::{ArrayRef, FixedSizeListArray, Float16Array, Float32Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use half::f16;
use parquet::arrow::ArrowWriter;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Items per part.
const PART: usize = 2048;

/// Format of an exported file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns `item_id` and `vector` (a list of fixed size).
    Parquet,
    /// One tensor `vectors` (items, width); the ids in a JSON file beside it.
    Safetensors,
}

/// Item vectors to export and how they are computed.
pub struct Export<'a> {
    /// Raw ids of the items, in order.
    pub ids: &'a [String],
    /// Width of a vector.
    pub width: usize,
    /// Digest of everything the vectors depend on; parts of another export are not reused.
    pub identity: &'a str,
    /// Output file.
    pub out: &'a Path,
    /// Format of the output file.
    pub format: Format,
    /// Precision of the output file.
    pub precision: Precision,
    /// Whether each vector is scaled to length 1.
    pub normalize: bool,
    /// Computes the vectors of the given items, as concatenated rows.
    pub compute: &'a dyn Fn(&[u32]) -> Result<Vec<f32>>,
    /// Progress callback with (items done, items in total).
    pub on_progress: &'a dyn Fn(usize, usize),
}

/// Writes the export; returns the number of items already computed by an earlier, interrupted process.
pub fn export(e: &Export) -> Result<usize> {
    let parts = e.prepare()?;
    let mut found = 0;
    for (k, from) in (0..e.ids.len()).step_by(PART).enumerate() {
        let to = (from + PART).min(e.ids.len());
        let path = part(&parts, k);
        if std::fs::metadata(&path).is_ok_and(|m| m.len() == ((to - from) * e.width * 4) as u64) {
            found += to - from;
        } else {
            let rows = e.rows(from, to)?;
            let bytes: Vec<u8> = rows.iter().flat_map(|v| v.to_le_bytes()).collect();
            fsio::write_bytes(&path, &bytes)?;
        }
        (e.on_progress)(to, e.ids.len());
    }
    match e.format {
        Format::Parquet => e.parquet(&parts)?,
        Format::Safetensors => e.safetensors(&parts)?,
    }
    std::fs::remove_dir_all(&parts).map_err(Error::io(&parts))?;
    Ok(found)
}

/// Path of the JSON file of raw ids beside a safetensors file.
pub fn ids_file(out: &Path) -> PathBuf {
    out.with_extension("ids.json")
}

fn part(parts: &Path, k: usize) -> PathBuf {
    parts.join(format!("part-{k:06}.f32"))
}

impl Export<'_> {
    /// Opens the folder of parts; parts of another export are deleted.
    fn prepare(&self) -> Result<PathBuf> {
        let name = self.out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let parts = self.out.with_file_name(format!("{name}.partial"));
        let mark = parts.join("identity");
        if parts.exists() && fsio::read_text(&mark).ok().as_deref() != Some(self.identity) {
            std::fs::remove_dir_all(&parts).map_err(Error::io(&parts))?;
        }
        std::fs::create_dir_all(&parts).map_err(Error::io(&parts))?;
        fsio::write_bytes(&mark, self.identity.as_bytes())?;
        Ok(parts)
    }
    fn rows(&self, from: usize, to: usize) -> Result<Vec<f32>> {
        let ids: Vec<u32> = (from as u32..to as u32).collect();
        let mut rows = (self.compute)(&ids)?;
        for (row, id) in rows.chunks_exact_mut(self.width).zip(&self.ids[from..to]) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            if !norm.is_finite() {
                return Err(Error::Numeric(format!(
                    "the vector of item `{id}` is not finite: the model is not usable"
                )));
            }
            if self.normalize && norm > 0.0 {
                row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
            }
            if self.precision == Precision::F16
                && let Some(v) = row.iter().find(|v| !f16::from_f32(**v).is_finite())
            {
                return Err(Error::Usage(format!("the vector of item `{id}` holds {v}, too large for f16; use f32")));
            }
        }
        Ok(rows)
    }
    /// Iterates over the parts in order, as (first item, values).
    fn each(&self, parts: &Path, mut each: impl FnMut(usize, Vec<f32>) -> Result<()>) -> Result<()> {
        for (k, from) in (0..self.ids.len()).step_by(PART).enumerate() {
            let path = part(parts, k);
            let bytes = std::fs::read(&path).map_err(Error::io(&path))?;
            each(from, bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())?;
        }
        Ok(())
    }
    fn parquet(&self, parts: &Path) -> Result<()> {
        let half = self.precision == Precision::F16;
        let number = if half { DataType::Float16 } else { DataType::Float32 };
        let element = Arc::new(Field::new("item", number, false));
        let list = DataType::FixedSizeList(element.clone(), self.width as i32);
        let fields = vec![Field::new("item_id", DataType::Utf8, false), Field::new("vector", list, false)];
        let schema = Arc::new(Schema::new(fields));
        fsio::write_atomic(self.out, |w| {
            let bad = |e: parquet::errors::ParquetError| Error::model(self.out, e.to_string());
            let arrow = |e: arrow::error::ArrowError| Error::model(self.out, e.to_string());
            let mut file = ArrowWriter::try_new(w, schema.clone(), None).map_err(bad)?;
            self.each(parts, |from, rows| {
                let n = rows.len() / self.width;
                let values: ArrayRef = match half {
                    true => Arc::new(Float16Array::from_iter_values(rows.iter().map(|&v| f16::from_f32(v)))),
                    false => Arc::new(Float32Array::from(rows)),
                };
                let ids = StringArray::from_iter_values(&self.ids[from..from + n]);
                let vectors =
                    FixedSizeListArray::try_new(element.clone(), self.width as i32, values, None).map_err(arrow)?;
                let batch = RecordBatch::try_new(schema.clone(), vec![Arc::new(ids), Arc::new(vectors)]);
                file.write(&batch.map_err(arrow)?).map_err(bad)
            })?;
            file.close().map_err(bad)?;
            Ok(())
        })
    }
    fn safetensors(&self, parts: &Path) -> Result<()> {
        let shape = [self.ids.len(), self.width];
        let header =
            header(&Default::default(), &[("vectors", self.precision.label(), &shape, self.precision.bytes())]);
        fsio::write_json(&ids_file(self.out), &self.ids)?;
        fsio::write_atomic(self.out, |w| {
            let io = |e| Error::io(self.out)(e);
            w.write_all(&header).map_err(io)?;
            self.each(parts, |_, rows| {
                let bytes: Vec<u8> = match self.precision {
                    Precision::F32 => rows.iter().flat_map(|v| v.to_le_bytes()).collect(),
                    Precision::F16 => rows.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
                };
                w.write_all(&bytes).map_err(io)
            })
        })
    }
}
