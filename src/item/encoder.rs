//! What every item encoder does.

use super::features::Features;
use super::frozen_cache::FrozenDepth;
use super::table::ItemTable;
use crate::config::Modality;
use crate::error::Result;
use crate::nn::{Act, Pass};

/// Turns items into vectors.
pub trait ItemEncoder: Send + Sync {
    /// Width of the vectors.
    fn dim(&self) -> usize;
    /// (n, d), one row an item of the table.
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act>;
    /// How much of each pre-trained encoder is frozen, where there is something in it worth keeping in [`Features`].
    fn frozen_depths(&self) -> Vec<(Modality, FrozenDepth)> {
        vec![]
    }
    /// What that part makes of the items, row after row. No gradient.
    fn frozen_output(&self, items: &ItemTable, modality: Modality, depth: FrozenDepth) -> Result<Vec<f32>> {
        let _ = (modality, depth);
        crate::nn::host::to_vec(self.encode(items, &Pass::eval())?.value())
    }
    /// The width of such a row.
    fn frozen_width(&self, modality: Modality, depth: FrozenDepth) -> usize {
        let _ = (modality, depth);
        self.dim()
    }
    /// How many rows that is for an item.
    fn frozen_rows(&self, modality: Modality, features: &Features, depth: FrozenDepth, item: usize) -> usize {
        let _ = (modality, features, depth, item);
        1
    }
}
