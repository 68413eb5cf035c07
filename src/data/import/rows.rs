//! Interface between the readers of each file format and [`super::table::Table`].

use crate::error::{DataError, Error, Result};

/// Error of reading a row.
pub enum Fault {
    /// The row is malformed; reading can continue with the next row.
    Row(DataError),
    /// The rest of the file cannot be read.
    File(Error),
}

impl From<Error> for Fault {
    fn from(e: Error) -> Self {
        Self::File(e)
    }
}

/// The fields of one row in one buffer.
#[derive(Debug, Default, Clone)]
pub struct Fields {
    text: String,
    ends: Vec<usize>,
}

impl Fields {
    /// Removes all fields.
    pub fn clear(&mut self) {
        self.text.clear();
        self.ends.clear();
    }
    /// Appends text to the field under construction.
    pub fn append(&mut self, part: &str) {
        self.text.push_str(part);
    }
    /// Ends the field under construction.
    pub fn end(&mut self) {
        self.ends.push(self.text.len());
    }
    /// Appends a whole field.
    pub fn push(&mut self, field: &str) {
        self.append(field);
        self.end();
    }
    /// Number of fields.
    pub fn len(&self) -> usize {
        self.ends.len()
    }
    /// Whether there are no fields.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }
    /// Field `i`.
    pub fn get(&self, i: usize) -> &str {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.text[start..self.ends[i]]
    }
    /// Length in bytes of the field under construction.
    pub fn open_len(&self) -> usize {
        self.text.len() - self.ends.last().copied().unwrap_or(0)
    }
}

/// A reader of rows.
pub trait Rows {
    /// Reads the next row into `row`; returns `false` at the end of the file.
    fn advance(&mut self, row: &mut Fields) -> Result<bool, Fault>;
    /// 1-based line (or row) number of the current row.
    fn line(&self) -> u64;
    /// Bytes (or rows) read and in total.
    fn progress(&self) -> (u64, u64);
}
