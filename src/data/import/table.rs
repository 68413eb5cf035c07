//! Tables of named text columns, read from delimited text, JSON lines or Parquet.

use super::delimited::Delimited;
use super::jsonl::Jsonl;
use super::parquet::ParquetRows;
use super::rows::{Fault, Fields, Rows};
use crate::data::build::ImportSink;
use crate::data::policy::Encoding;
use crate::error::{DataError, Result};
use std::path::{Path, PathBuf};

/// Layout of a table's file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Delimited text.
    Delimited {
        /// Byte that separates fields.
        delimiter: u8,
        /// Whether `"` quotes fields; otherwise it is an ordinary character.
        quotes: bool,
        /// Whether the first line contains the column names.
        header: bool,
    },
    /// JSON lines: one JSON object per line.
    Jsonl,
    /// Apache Parquet.
    Parquet,
}

impl Layout {
    /// Layout of tab-separated text with literal quotes.
    pub const fn tsv(header: bool) -> Self {
        Self::Delimited { delimiter: b'\t', quotes: false, header }
    }
    /// Layout of comma-separated text with quoted fields.
    pub const fn csv(header: bool) -> Self {
        Self::Delimited { delimiter: b',', quotes: true, header }
    }
}

/// Table of text fields read from a file, row by row.
pub struct Table {
    path: PathBuf,
    /// Column names; `1`, `2`, … if the file has none.
    pub columns: Vec<String>,
    /// Names of columns that cannot be read because their Parquet types are nested.
    nested: Vec<String>,
    rows: Box<dyn Rows>,
    row: Fields,
    seen: u64,
}

impl Table {
    /// Opens a file and reads its column names.
    pub fn open(path: &Path, layout: Layout, encoding: Encoding) -> Result<Self> {
        let (rows, columns, nested): (Box<dyn Rows>, _, _) = match layout {
            Layout::Delimited { delimiter, quotes, header } => {
                let (rows, columns) = Delimited::open(path, delimiter, quotes, header, encoding)?;
                (Box::new(rows), columns, Vec::new())
            }
            Layout::Jsonl => {
                let (rows, columns) = Jsonl::open(path, encoding)?;
                (Box::new(rows), columns, Vec::new())
            }
            Layout::Parquet => {
                let (rows, columns, nested) = ParquetRows::open(path)?;
                (Box::new(rows), columns, nested)
            }
        };
        let table = Self { path: path.into(), columns, nested, rows, row: Fields::default(), seen: 0 };
        // Spreadsheets write trailing commas, so columns without a name are allowed; they are not read.
        for (i, name) in table.columns.iter().enumerate().filter(|(_, n)| !n.is_empty()) {
            if table.columns[..i].contains(name) {
                let e = DataError::new(path, "the header names this column twice").line(1).field(name);
                return Err(e.remedy("rename one of them").into());
            }
        }
        Ok(table)
    }

    /// Reads the next valid row; returns `false` at the end of the file. Malformed rows are reported to `intake`, which
    /// may stop the import.
    pub fn advance(&mut self, intake: &mut ImportSink<'_>) -> Result<bool> {
        loop {
            self.seen += 1;
            if self.seen.is_multiple_of(1024) {
                let (done, total) = self.rows.progress();
                intake.on_progress(&self.path, done, total);
            }
            self.row.clear();
            match self.rows.advance(&mut self.row) {
                Ok(true) => return Ok(true),
                Ok(false) => {
                    let (_, total) = self.rows.progress();
                    intake.on_progress(&self.path, total, total);
                    return Ok(false);
                }
                Err(Fault::Row(e)) => intake.malformed(e)?,
                Err(Fault::File(e)) => return Err(e),
            }
        }
    }

    /// Index of a column; `option` is the flag that sets it, for the error's remedy.
    pub fn find(&self, name: &str, option: &str) -> Result<usize> {
        if let Some(i) = self.columns.iter().position(|c| c == name) {
            return Ok(i);
        }
        let mut e = DataError::new(&self.path, format!("no such column; the file has: {}", self.columns.join(", ")));
        e = e.line(1).field(name);
        let near = nearest(name, self.columns.iter().map(String::as_str));
        Err(match near {
            _ if self.nested.iter().any(|n| n == name) => {
                DataError::new(&self.path, "the column is of a nested type").field(name).remedy("flatten it first")
            }
            Some(n) => e.remedy(format!("the nearest name is `{n}`: pass `{option} {n}`")),
            None => e.remedy(format!("pass the right name with `{option}`")),
        }
        .into())
    }

    /// Field `i` of the current row.
    pub fn get(&self, i: usize) -> &str {
        self.row.get(i)
    }
    /// 1-based line (or row) number of the current row.
    pub fn line(&self) -> u64 {
        self.rows.line()
    }
    /// Raw file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Creates a data error at the current row.
    pub fn error(&self, field: &str, message: impl Into<String>) -> DataError {
        DataError::new(&self.path, message).line(self.line()).field(field)
    }
}

/// Most similar name among `names`; `None` if no name is similar.
pub fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    names
        .map(|n| (strsim::jaro_winkler(&lower, &n.to_lowercase()), n))
        .filter(|(score, _)| *score > 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, n)| n)
}
