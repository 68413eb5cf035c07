//! Ragged rows packed one after the other: no padding item and no padding token is ever computed.

use std::sync::Arc;

/// Lengths of the sequences packed into the rows of a (t, d) value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    offsets: Arc<Vec<usize>>,
}

impl Segments {
    /// From the length of each sequence.
    pub fn from_lengths(lengths: impl IntoIterator<Item = usize>) -> Self {
        let mut offsets = vec![0];
        let mut at = 0;
        for l in lengths {
            at += l;
            offsets.push(at);
        }
        Self { offsets: Arc::new(offsets) }
    }
    /// Number of sequences.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Number of packed rows.
    pub fn total(&self) -> usize {
        self.offsets[self.len()]
    }
    /// First row and length of sequence `i`.
    pub fn get(&self, i: usize) -> (usize, usize) {
        (self.offsets[i], self.offsets[i + 1] - self.offsets[i])
    }
    /// (first row, length) of each sequence.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.offsets.windows(2).map(|w| (w[0], w[1] - w[0]))
    }
    /// Length of the longest.
    pub fn longest(&self) -> usize {
        self.iter().map(|(_, l)| l).max().unwrap_or(0)
    }
    /// Row of each sequence's last element; sequences must not be empty.
    pub fn last_rows(&self) -> Vec<u32> {
        self.offsets[1..].iter().map(|&o| o as u32 - 1).collect()
    }
    /// Start of each sequence's block in a packed store of `heads × len × len` attention weights, and its end.
    pub fn squares(&self, heads: usize) -> Vec<usize> {
        let mut at = 0;
        let mut out = vec![0];
        for (_, l) in self.iter() {
            at += heads * l * l;
            out.push(at);
        }
        out
    }
}
