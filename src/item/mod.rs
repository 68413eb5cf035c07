//! Item encoders: items of a batch, each once → (n, d).

pub mod features;
pub mod id;
pub mod text;

pub use features::{Features, Tokens};
pub use id::IdEncoder;
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
pub trait ItemEncoder {
    /// Width of the vectors.
    fn dim(&self) -> usize;
    /// (n, d), one row an item of the table.
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act>;
    /// Whether all of a pre-trained encoder is frozen, so that its output can be kept in [`Features`].
    fn prefix_is_frozen(&self) -> bool {
        false
    }
    /// That output, (n, width), without gradient.
    fn prefix(&self, items: &ItemTable) -> Result<Act> {
        self.encode(items, &Pass::eval())
    }
}
