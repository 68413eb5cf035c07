//! Item encoders: items of a batch, each once → (n, d).

pub mod features;
pub mod frozen_cache;
mod fused;
mod hidden_adapter;
pub mod id;
pub mod image;
mod k_adapter;
mod prompt;
mod side_tower;
pub mod text;
pub mod token_cache;

pub use features::{Features, ItemModalities, Tokens};
pub use frozen_cache::{FrozenCache, FrozenDepth};
pub use fused::FusedEncoder;
pub use id::IdEncoder;
pub use image::ImageEncoder;
pub use text::TextEncoder;

use crate::error::Result;
use crate::nn::ops::{self, MASKED};
use crate::nn::{Act, Pass, Segments};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// The distinct items of a batch and where their content lies.
#[derive(Clone, Copy)]
pub struct ItemTable<'a> {
    /// Rows of `features`, each at most once.
    pub ids: &'a Arc<Vec<u32>>,
    /// Content of the whole catalogue.
    pub features: &'a Features,
}

impl ItemTable<'_> {
    /// The items for which `wanted`, and where each of the table's stands among them ([`MASKED`]: nowhere).
    fn partition(&self, wanted: impl Fn(usize) -> bool) -> (Arc<Vec<u32>>, Vec<u32>) {
        let mut present = vec![];
        let mut position = Vec::with_capacity(self.ids.len());
        for &i in self.ids.iter() {
            if wanted(i as usize) {
                position.push(present.len() as u32);
                present.push(i);
            } else {
                position.push(MASKED);
            }
        }
        (Arc::new(present), position)
    }
}

/// Rows of the items that were [picked](ItemTable::partition), packed as `segments`, spread over all items of the table: where each
/// row comes from, and how they are packed. An item that was not picked has one row, [`MASKED`].
fn scatter_segments(position: &[u32], segments: &Segments) -> (Vec<u32>, Segments) {
    let (mut rows, mut lengths) = (vec![], Vec::with_capacity(position.len()));
    for &p in position {
        if p == MASKED {
            rows.push(MASKED);
            lengths.push(1);
        } else {
            let (at, len) = segments.get(p as usize);
            rows.extend(at as u32..(at + len) as u32);
            lengths.push(len);
        }
    }
    (rows, Segments::from_lengths(lengths))
}

/// Rows of the items that were picked, one an item of the table; zeros for those that were not.
fn scatter_rows(pass: &Pass, rows: &Act, position: &[u32]) -> Result<Act> {
    let none = rows.dims2()?.0 as u32;
    let at = position.iter().map(|&p| if p == MASKED { none } else { p });
    ops::gather(pass, &ops::append_zero_row(pass, rows)?, Arc::new(at.collect()))
}

/// A row that nobody reads, in the place of no row at all.
fn zero_row(d: usize, device: &Device) -> Result<Act> {
    Ok(Act::constant(Tensor::zeros((1, d), DType::F32, device)?))
}

/// The block that a name below a backbone belongs to, as (stage, block) and the beginning of such names: `encoder.layer.3.`,
/// `encoder.layers.3.`, `encoder.stages.1.layers.2.`, `encoder.layers.1.blocks.2.`. What stands between stages has block MAX.
pub fn block_of(name: &str) -> Option<((usize, usize), String)> {
    let parts: Vec<&str> = name.split('.').collect();
    let at = parts.iter().position(|p| ["layer", "layers", "stages"].contains(p))?;
    let first: usize = parts.get(at + 1)?.parse().ok()?;
    let inner = parts.get(at + 2).copied().unwrap_or_default();
    let upto = |n: usize| parts[..n].join(".") + ".";
    match (parts[at], inner, parts.get(at + 3).and_then(|p| p.parse::<usize>().ok())) {
        ("stages", "layers", Some(i)) | ("layers", "blocks", Some(i)) => Some(((first, i), upto(at + 4))),
        ("layers", "downsample", _) => Some(((first, usize::MAX), upto(at + 3))),
        ("stages", ..) => None,
        _ => Some(((first, 0), upto(at + 2))),
    }
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
