//! A data set in memory: dense `u32` item and user indices; raw ids occur only in import and output.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// Ragged rows: row `i` is `values[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// Start offsets of the rows, ascending from 0; `rows + 1` values.
    pub offsets: Vec<usize>,
    /// Concatenated rows.
    pub values: Vec<u32>,
}

impl Default for Csr {
    fn default() -> Self {
        Self { offsets: vec![0], values: Vec::new() }
    }
}

impl Csr {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Row `i`.
    pub fn row(&self, i: usize) -> &[u32] {
        &self.values[self.offsets[i]..self.offsets[i + 1]]
    }
    /// Appends a row.
    pub fn push(&mut self, row: &[u32]) {
        self.values.extend_from_slice(row);
        self.offsets.push(self.values.len());
    }
    /// Iterates over all rows in order.
    pub fn rows(&self) -> impl Iterator<Item = &[u32]> {
        self.offsets.windows(2).map(|w| &self.values[w[0]..w[1]])
    }
}

/// Catalogue of items. A dense item index is the row number in `items.parquet`.
#[derive(Debug, Clone, Default)]
pub struct Items {
    /// Raw item ids.
    pub ids: Vec<String>,
    /// Text of each item; empty for items without text.
    pub text: Vec<String>,
    /// Other columns (category, year, …), each as long as `ids`; empty string = missing.
    pub attributes: BTreeMap<String, Vec<String>>,
}

/// One domain: catalogue, users, and each user's interactions, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Dataset {
    /// Name of the data set, by default the folder's.
    pub name: String,
    /// Catalogue of items.
    pub items: Items,
    /// Raw user ids; index = dense user index = row of `seqs`.
    pub users: Vec<String>,
    /// Other user columns, each as long as `users`; empty string = missing.
    pub user_attributes: BTreeMap<String, Vec<String>>,
    /// Each user's items in order of (timestamp, file order).
    pub seqs: Csr,
    /// Timestamps in seconds since 1970, aligned with `seqs.values`; `None` where the source has only an order.
    pub times: Option<Vec<i64>>,
    /// Digest of the folder's content; empty for a data set made in memory.
    pub digest: String,
    /// Folder that the data set was opened from.
    pub dir: Option<PathBuf>,
    /// Images of the items, if the data set has any.
    pub images: Option<super::ImageFile>,
}
