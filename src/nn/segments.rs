//! Packed sequences: rows of all sequences one after the other, so that no padding item or token is computed.

use std::sync::Arc;

/// Lengths of the sequences that are packed into the rows of a (t, d) value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    offsets: Arc<Vec<usize>>,
}

impl Segments {
    /// Builds the segments from the length of each sequence.
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
    /// Whether there are no sequences.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Total number of packed rows.
    pub fn total(&self) -> usize {
        self.offsets[self.len()]
    }
    /// First row and length of sequence `i`.
    pub fn get(&self, i: usize) -> (usize, usize) {
        (self.offsets[i], self.offsets[i + 1] - self.offsets[i])
    }
    /// Iterates over (first row, length) of each sequence.
    pub fn iter(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.offsets.windows(2).map(|w| (w[0], w[1] - w[0]))
    }
    /// Length of the longest sequence, in rows.
    pub fn longest(&self) -> usize {
        self.iter().map(|(_, l)| l).max().unwrap_or(0)
    }
    /// Index of each sequence's last row; no sequence may be empty.
    pub fn last_rows(&self) -> Vec<u32> {
        self.offsets[1..].iter().map(|&o| o as u32 - 1).collect()
    }
    /// Offsets of each sequence's `heads × len × len` attention weights in a packed buffer, followed by the buffer's
    /// size.
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
