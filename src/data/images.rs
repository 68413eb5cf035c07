//! The images of a data set: `images.parquet` with the columns `item` (u32, dense index) and `image` (compressed bytes
//! of the original file). Items without image have no row.

use super::columns::{damaged, sound};
use super::notes::Notes;
use crate::error::{DataError, Error, Result};
use crate::fsio::open_regular;
use crate::picture::check;
use arrow::array::{AsArray, LargeBinaryArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, UInt32Type};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::properties::WriterProperties;
use rayon::prelude::*;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Builder = ParquetRecordBatchReaderBuilder<File>;

/// Name of the image file in a data set folder.
pub const IMAGES: &str = "images.parquet";
/// Maximum number of images per row group.
const BATCH: usize = 128;
/// Maximum number of bytes per row group.
const BATCH_BYTES: usize = 128 << 20;

/// Image file of a data set.
#[derive(Debug, Clone)]
pub struct ImageFile {
    path: PathBuf,
    digest: String,
    items: Vec<u32>,
}

impl ImageFile {
    /// Opens the image file of a data set with `count` items; `digest` is the digest of its content.
    pub fn open(path: &Path, digest: &str, count: usize) -> Result<Self> {
        let bad = |m: String| damaged(path, m);
        let mut reader = reader(path, 0, |b| b)?;
        let mut items = vec![];
        while let Some(batch) = sound(path, || reader.next())? {
            let batch = batch.map_err(|e| bad(e.to_string()))?;
            let column = batch.columns().first().and_then(|c| c.as_primitive_opt::<UInt32Type>());
            items.extend_from_slice(column.ok_or_else(|| bad("column 0 is not u32".into()))?.values());
        }
        let mut seen = vec![false; count];
        for &i in &items {
            match seen.get_mut(i as usize) {
                Some(s) if !*s => *s = true,
                _ => return Err(bad(format!("item {i} is out of range or has two pictures"))),
            }
        }
        Ok(Self { path: path.into(), digest: digest.into(), items })
    }
    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Digest of the file's content.
    pub fn digest(&self) -> &str {
        &self.digest
    }
    /// Number of images.
    pub fn count(&self) -> usize {
        self.items.len()
    }
    /// Item index of each row.
    pub fn items(&self) -> &[u32] {
        &self.items
    }
    /// Row of the image of each of `count` items; `None` for items without image.
    pub fn places(&self, count: usize) -> Vec<Option<u32>> {
        let mut out = vec![None; count];
        self.items.iter().enumerate().for_each(|(row, &i)| out[i as usize] = Some(row as u32));
        out
    }
    /// Calls `take(first row, bytes of each image)` for all rows from `from` on, in batches of at most `batch` rows.
    pub fn each(
        &self,
        from: usize,
        batch: usize,
        mut take: impl FnMut(usize, Vec<Vec<u8>>) -> Result<()>,
    ) -> Result<()> {
        let bad = |m: String| damaged(&self.path, m);
        let mut reader = reader(&self.path, 1, |b| b.with_offset(from).with_batch_size(batch))?;
        let mut at = from;
        while let Some(rows) = sound(&self.path, || reader.next())? {
            let rows = rows.map_err(|e| bad(e.to_string()))?;
            let column = rows.columns().first().and_then(|c| c.as_binary_opt::<i64>());
            let column = column.ok_or_else(|| bad("column 1 is not binary".into()))?;
            let all: Vec<Vec<u8>> = column.iter().map(|v| v.unwrap_or_default().to_vec()).collect();
            let n = all.len();
            take(at, all)?;
            at += n;
        }
        Ok(())
    }
}

/// Opens a reader of one of the two columns.
fn reader(path: &Path, column: usize, rows: impl FnOnce(Builder) -> Builder) -> Result<ParquetRecordBatchReader> {
    let bad = |m: String| damaged(path, m);
    let file = open_regular(path).map_err(|e| bad(e.to_string()))?;
    let builder = sound(path, || ParquetRecordBatchReaderBuilder::try_new(file))?.map_err(|e| bad(e.to_string()))?;
    if builder.parquet_schema().num_columns() != 2 {
        return Err(bad("its columns are not item, image".into()));
    }
    let mask = ProjectionMask::leaves(builder.parquet_schema(), [column]);
    sound(path, || rows(builder.with_projection(mask)).build())?.map_err(|e| bad(e.to_string()))
}

/// Callback for an image: item index, location for messages, and the bytes or the reason why they cannot be read.
pub type OnImage<'a> = dyn FnMut(u32, String, std::result::Result<Vec<u8>, String>) -> Result<()> + 'a;

/// A source of images for an import.
pub trait ImageSource {
    /// Calls `give(item, location, bytes)` once for each image whose raw item id is mapped to an item by `find`; in
    /// place of bytes that cannot be read, an error with the reason.
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()>;
}

/// Result of importing images.
#[derive(Debug, Default)]
pub struct ImagesWritten {
    /// Number of images written.
    pub kept: usize,
    /// Findings by kind.
    pub notes: Notes,
}

/// Writes the images of a source that can be decoded. An error if more than the share `tolerance` of them cannot. `ids`
/// are the raw item ids.
pub fn write(path: &Path, source: &dyn ImageSource, ids: &[String], tolerance: f64) -> Result<ImagesWritten> {
    let fail = |m: String| Error::Io { path: path.into(), source: std::io::Error::other(m) };
    let fields = vec![Field::new("item", DataType::UInt32, false), Field::new("image", DataType::LargeBinary, false)];
    let schema = Arc::new(Schema::new(fields));
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(1024));
    let file = File::create(path).map_err(Error::io(path))?;
    let writer =
        ArrowWriter::try_new(file, schema.clone(), Some(properties.build())).map_err(|e| fail(e.to_string()))?;
    let by_id: std::collections::HashMap<&str, u32> =
        ids.iter().enumerate().map(|(i, id)| (id.as_str(), i as u32)).collect();
    let mut state = Writing {
        writer,
        taken: ImagesWritten::default(),
        has: vec![false; ids.len()],
        faults: vec![],
        batch: vec![],
        bytes: 0,
    };
    source.each(&|id| by_id.get(id).copied(), &mut |item, place, bytes| {
        state.bytes += bytes.as_ref().map_or(0, Vec::len);
        state.batch.push((item, place, bytes));
        if state.batch.len() == BATCH || state.bytes > BATCH_BYTES {
            state.flush(&schema).map_err(fail)
        } else {
            Ok(())
        }
    })?;
    state.flush(&schema).map_err(fail)?;
    state.writer.close().map_err(|e| fail(e.to_string()))?;
    let Writing { mut taken, has, faults, .. } = state;
    let found = taken.kept + faults.len();
    if found == 0 {
        return Err(Error::Usage("none of the pictures belongs to an item: they are looked up by item id".into()));
    }
    if faults.len() as f64 > tolerance * found as f64 {
        let listed: Vec<&str> = faults.iter().take(5).map(|f| f.1.as_str()).collect();
        let m = format!("{} of {found} pictures cannot be used: {}", faults.len(), listed.join("; "));
        return Err(DataError::new(faults[0].0.as_str(), m)
            .remedy("mend or remove them, or pass `--bad-images SHARE` to go on without so large a share")
            .into());
    }
    for (_, m) in faults {
        taken.notes.add("bad_images", "pictures cannot be used; their items have none", || m);
    }
    for (id, _) in ids.iter().zip(&has).filter(|(_, has)| !**has) {
        taken.notes.add("items_without_image", "items have no picture", || id.clone());
    }
    Ok(taken)
}

struct Writing {
    writer: ArrowWriter<File>,
    taken: ImagesWritten,
    has: Vec<bool>,
    /// Location and reason of each unusable image.
    faults: Vec<(String, String)>,
    batch: Vec<(u32, String, std::result::Result<Vec<u8>, String>)>,
    bytes: usize,
}

impl Writing {
    fn flush(&mut self, schema: &Arc<Schema>) -> std::result::Result<(), String> {
        let batch = std::mem::take(&mut self.batch);
        self.bytes = 0;
        let sound = |bytes: &std::result::Result<Vec<u8>, String>| match bytes {
            Ok(b) => check(b).map_err(|fault| fault.to_string()),
            Err(why) => Err(why.clone()),
        };
        let checked: Vec<_> = batch.par_iter().map(|(_, _, bytes)| sound(bytes)).collect();
        let (mut items, mut images) = (vec![], vec![]);
        for ((item, place, bytes), checked) in batch.into_iter().zip(checked) {
            match checked {
                Err(fault) => self.faults.push((place.clone(), format!("{place} {fault}"))),
                Ok(()) if self.has[item as usize] => {
                    self.taken.notes.add("two_images", "pictures are an item's second; the first is kept", || place);
                }
                Ok(()) => {
                    self.has[item as usize] = true;
                    items.push(item);
                    images.push(bytes.unwrap_or_default());
                }
            }
        }
        self.taken.kept += items.len();
        if items.is_empty() {
            return Ok(());
        }
        let bytes = LargeBinaryArray::from_iter_values(images);
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(UInt32Array::from(items)), Arc::new(bytes)];
        let rows = RecordBatch::try_new(schema.clone(), columns).map_err(|e| e.to_string())?;
        self.writer.write(&rows).map_err(|e| e.to_string())
    }
}
