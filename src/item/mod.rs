//! Item encoders: items of a batch, each once → (n, d).

pub mod features;
pub mod id;
pub mod prefix;
pub mod text;
pub mod token_cache;

pub use features::{Features, Tokens};
pub use id::IdEncoder;
pub use prefix::{Depth, Prefix};
pub use text::TextEncoder;

use crate::error::Result;
use crate::nn::{Act, Pass};
use std::sync::Arc;

/// The distinct items of a batch and where their content lies.
#[derive(Clone, Copy)]
pub struct ItemTable<'a> {
    /// Rows of `features`, each at most once.
    pub ids: &'a Arc<Vec<u32>>,
    /// Content of the whole catalogue.
    pub features: &'a Features,
}

/// Turns items into vectors.
pub trait ItemEncoder: Send + Sync {
    /// Width of the vectors.
    fn dim(&self) -> usize;
    /// (n, d), one row an item of the table.
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act>;
    /// How much of a pre-trained encoder is frozen, if there is something in it worth keeping in [`Features`].
    fn frozen(&self) -> Option<Depth> {
        None
    }
    /// What that part makes of the items, row after row, and the width of a row. No gradient.
    fn prefix(&self, items: &ItemTable, depth: Depth) -> Result<(Vec<f32>, usize)> {
        let _ = depth;
        let y = self.encode(items, &Pass::eval())?;
        Ok((crate::nn::host::to_vec(y.value())?, self.dim()))
    }
}
