//! User encoders: packed histories → a state after each event.

pub mod sasrec;

pub use sasrec::SasRec;

use crate::error::Result;
use crate::nn::{Act, Pass, Segments};
use std::sync::Arc;

/// Histories of a batch, packed; no slot of padding exists.
#[derive(Debug, Clone)]
pub struct Histories {
    /// Length of each history.
    pub segments: Segments,
    /// Slot of each event when histories are aligned at their end in L slots (the reference's left padding).
    pub slots: Arc<Vec<u32>>,
}

impl Histories {
    /// Of these lengths, none longer than `max_len`.
    pub fn new(lengths: impl IntoIterator<Item = usize>, max_len: usize) -> Self {
        let segments = Segments::from_lengths(lengths);
        let slots = segments.iter().flat_map(|(_, l)| (max_len - l..max_len).map(|s| s as u32)).collect();
        Self { segments, slots: Arc::new(slots) }
    }
}

/// Turns item vectors in order of time into user states.
pub trait UserEncoder {
    /// x (t, d) packed as `histories` → (t, d): the state after each event.
    fn encode(&self, x: &Act, histories: &Histories, pass: &Pass) -> Result<Act>;
}
