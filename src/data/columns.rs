//! Reading and writing of Parquet columns.

use crate::error::{DataError, Error, Result};
use crate::fsio::{caught, open_regular};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Number of rows per batch; bounds memory, and keeps the text of one string array below 2 GiB.
const BATCH: usize = 1 << 16;

/// A column to write: its field, and a function from a range of rows to an array.
pub struct Column<'a> {
    /// Name, type, nullability.
    pub field: Field,
    /// Computes the values of a range of rows.
    pub make: Box<dyn Fn(Range<usize>) -> ArrayRef + 'a>,
}

impl<'a> Column<'a> {
    /// Creates a column of any type.
    pub fn new(field: Field, make: impl Fn(Range<usize>) -> ArrayRef + 'a) -> Self {
        Self { field, make: Box::new(make) }
    }
    /// Creates a text column without nulls.
    pub fn text(name: &str, values: &'a [String]) -> Self {
        Self::new(Field::new(name, DataType::Utf8, false), |r| {
            Arc::new(StringArray::from_iter_values(values[r].iter()))
        })
    }
    /// Creates a text column whose empty strings are nulls in the file.
    pub fn optional_text(name: &str, values: &'a [String]) -> Self {
        Self::new(Field::new(name, DataType::Utf8, true), |r| {
            let rows = values[r].iter().map(|v| (!v.is_empty()).then_some(v.as_str()));
            Arc::new(rows.collect::<StringArray>())
        })
    }
}

fn other(path: &Path) -> impl Fn(String) -> Error {
    let path = path.to_path_buf();
    move |m| Error::Io { path: path.clone(), source: std::io::Error::other(m) }
}

/// Writes a Parquet file of `rows` rows with these columns (Snappy compression).
pub fn write(path: &Path, rows: usize, columns: &[Column<'_>]) -> Result<()> {
    let fail = other(path);
    let schema = Arc::new(Schema::new(columns.iter().map(|c| c.field.clone()).collect::<Vec<_>>()));
    let file = File::create(path).map_err(Error::io(path))?;
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(|e| fail(e.to_string()))?;
    for start in (0..rows).step_by(BATCH) {
        let range = start..rows.min(start + BATCH);
        let arrays = columns.iter().map(|c| (c.make)(range.clone())).collect();
        let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(|e| fail(e.to_string()))?;
        writer.write(&batch).map_err(|e| fail(e.to_string()))?;
    }
    writer.close().map_err(|e| fail(e.to_string()))?;
    Ok(())
}

/// Calls `each` with every batch of a data set's Parquet file; another schema is a "damaged" error.
pub fn read(path: &Path, mut each: impl FnMut(&RecordBatch) -> Result<()>) -> Result<()> {
    let bad = |m: String| damaged(path, m);
    let file = open_regular(path).map_err(|e| bad(e.to_string()))?;
    let open = || ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(BATCH).build());
    let mut reader = sound(path, open)?.map_err(|e| bad(e.to_string()))?;
    while let Some(batch) = sound(path, || reader.next())? {
        each(&batch.map_err(|e| bad(e.to_string()))?)?;
    }
    Ok(())
}

/// Calls the Parquet reader, which panics on some damaged files, and turns a panic into an error.
pub fn sound<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T> {
    caught(read).ok_or_else(|| damaged(path, "the Parquet reader panicked"))
}

/// Appends a text column to `out`; nulls become empty.
pub fn push_text(path: &Path, batch: &RecordBatch, column: usize, out: &mut Vec<String>) -> Result<()> {
    let array = batch
        .columns()
        .get(column)
        .and_then(|a| a.as_string_opt::<i32>())
        .ok_or_else(|| damaged(path, format!("column {column} is not text")))?;
    out.extend((0..array.len()).map(|i| if array.is_null(i) { String::new() } else { array.value(i).into() }));
    Ok(())
}

/// The error for a damaged data set file.
pub fn damaged(path: &Path, message: impl Into<String>) -> Error {
    DataError::new(path, format!("damaged: {}", message.into()))
        .remedy("import the data set again (`morec data import … --force`)")
        .into()
}
