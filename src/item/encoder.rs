//! The interface of item encoders.

use super::features::Features;
use super::frozen_cache::FrozenDepth;
use super::table::ItemTable;
use crate::config::Modality;
use crate::error::Result;
use crate::nn::{Act, Pass};

/// An item encoder: maps items to vectors.
pub trait ItemEncoder: Send + Sync {
    /// Dimension of the item vectors.
    fn dim(&self) -> usize;
    /// Encodes the items of a table → (n, d), one row per item.
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act>;
    /// Depth to which each pre-trained encoder is frozen, for encoders whose frozen output can be cached in
    /// [`Features`].
    fn frozen_depths(&self) -> Vec<(Modality, FrozenDepth)> {
        vec![]
    }
    /// Output of the frozen layers of `modality` for the items, row by row, without gradient.
    fn frozen_output(&self, items: &ItemTable, modality: Modality, depth: FrozenDepth) -> Result<Vec<f32>> {
        let _ = (modality, depth);
        crate::nn::host::to_vec(self.encode(items, &Pass::eval())?.value())
    }
    /// Number of values per row of [`frozen_output`](Self::frozen_output).
    fn frozen_width(&self, modality: Modality, depth: FrozenDepth) -> usize {
        let _ = (modality, depth);
        self.dim()
    }
    /// Number of rows of [`frozen_output`](Self::frozen_output) for one item.
    fn frozen_rows(&self, modality: Modality, features: &Features, depth: FrozenDepth, item: usize) -> usize {
        let _ = (modality, features, depth, item);
        1
    }
}
