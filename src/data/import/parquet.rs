//! Import of Parquet files: each non-nested column is read as text, timestamps as integers of their own unit, dates as
//! seconds.

use super::rows::{Fault, Fields, Rows};
use crate::error::{DataError, Error};
use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::{can_cast_types, cast};
use arrow::datatypes::{DataType, TimeUnit};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use std::fs::File;
use std::path::{Path, PathBuf};

pub struct ParquetRows {
    path: PathBuf,
    reader: ParquetRecordBatchReader,
    batch: Vec<StringArray>,
    /// Index of the next row in the batch.
    at: usize,
    row: u64,
    total: u64,
}

fn plain(t: &DataType) -> bool {
    !t.is_nested() && can_cast_types(t, &DataType::Utf8)
}

fn to_text(array: &ArrayRef) -> Result<StringArray, arrow::error::ArrowError> {
    let array = match array.data_type() {
        DataType::Timestamp(..) => cast(array, &DataType::Int64)?,
        DataType::Date32 | DataType::Date64 => {
            cast(&cast(array, &DataType::Timestamp(TimeUnit::Second, None))?, &DataType::Int64)?
        }
        _ => array.clone(),
    };
    Ok(cast(&array, &DataType::Utf8)?.as_string::<i32>().clone())
}

fn unreadable(path: &Path, e: impl std::fmt::Display) -> Error {
    let e = DataError::new(path, format!("cannot be read as Parquet: {e}"));
    e.remedy("check the file; if its compression is not supported, write it again with Snappy or none").into()
}

/// Calls the Parquet reader, which panics on some damaged files, and turns a panic into an error.
fn caught<T>(path: &Path, read: impl FnOnce() -> T) -> Result<T, Error> {
    crate::fsio::caught(read).ok_or_else(|| unreadable(path, "the reader panicked, so it is damaged"))
}

impl ParquetRows {
    /// Opens a file; returns its reader and the names of its non-nested and of its nested columns.
    pub fn open(path: &Path) -> Result<(Self, Vec<String>, Vec<String>), Error> {
        let file = crate::fsio::open_regular(path).map_err(Error::data_io(path))?;
        caught(path, || Self::build(path, file))?
    }

    fn build(path: &Path, file: File) -> Result<(Self, Vec<String>, Vec<String>), Error> {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, e))?;
        let total = builder.metadata().file_metadata().num_rows().unsigned_abs();
        let fields = builder.schema().fields().clone();
        let (keep, rest): (Vec<usize>, Vec<usize>) = (0..fields.len()).partition(|&i| plain(fields[i].data_type()));
        let names = |which: &[usize]| which.iter().map(|&i| fields[i].name().clone()).collect::<Vec<_>>();
        let mask = ProjectionMask::roots(builder.parquet_schema(), keep.iter().copied());
        let reader = builder.with_projection(mask).with_batch_size(8192).build().map_err(|e| unreadable(path, e))?;
        let rows = Self { path: path.into(), reader, batch: Vec::new(), at: 0, row: 0, total };
        Ok((rows, names(&keep), names(&rest)))
    }
}

impl Rows for ParquetRows {
    fn advance(&mut self, row: &mut Fields) -> Result<bool, Fault> {
        while self.batch.first().is_none_or(|c| self.at >= c.len()) {
            let Some(batch) = caught(&self.path, || self.reader.next())? else { return Ok(false) };
            let batch = batch.map_err(|e| unreadable(&self.path, e))?;
            self.batch =
                batch.columns().iter().map(to_text).collect::<Result<_, _>>().map_err(|e| unreadable(&self.path, e))?;
            self.at = 0;
        }
        for column in &self.batch {
            row.push(if column.is_null(self.at) { "" } else { column.value(self.at) });
        }
        self.at += 1;
        self.row += 1;
        Ok(true)
    }
    fn line(&self) -> u64 {
        self.row
    }
    fn progress(&self) -> (u64, u64) {
        (self.row, self.total)
    }
}
