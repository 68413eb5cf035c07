//! Item encoders: items of a batch, each once → (n, d).

pub mod features;
mod fused;
pub mod id;
pub mod image;
pub mod prefix;
pub mod text;
pub mod token_cache;

pub use features::{Features, Has, Tokens};
pub use fused::FusedEncoder;
pub use id::IdEncoder;
pub use image::ImageEncoder;
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

/// What an item may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Modality {
    /// Its text.
    Text,
    /// Its picture.
    Image,
}

/// Turns items into vectors.
pub trait ItemEncoder: Send + Sync {
    /// Width of the vectors.
    fn dim(&self) -> usize;
    /// (n, d), one row an item of the table.
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act>;
    /// How much of each pre-trained encoder is frozen, where there is something in it worth keeping in [`Features`].
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        vec![]
    }
    /// What that part makes of the items, row after row, and the width of a row. No gradient.
    fn prefix(&self, items: &ItemTable, modality: Modality, depth: Depth) -> Result<(Vec<f32>, usize)> {
        let _ = (modality, depth);
        let y = self.encode(items, &Pass::eval())?;
        Ok((crate::nn::host::to_vec(y.value())?, self.dim()))
    }
    /// How many rows that is for an item.
    fn prefix_rows(&self, modality: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        let _ = (modality, features, depth, item);
        1
    }
}
