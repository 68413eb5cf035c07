//! Item encoders: items of a batch, each once → (n, d).

mod aside;
pub mod features;
mod fused;
pub mod id;
pub mod image;
pub mod prefix;
mod prompt;
pub mod text;
pub mod token_cache;

pub use features::{Features, Has, Tokens};
pub use fused::FusedEncoder;
pub use id::IdEncoder;
pub use image::ImageEncoder;
pub use prefix::{Depth, Prefix};
pub use text::TextEncoder;

use crate::error::Result;
use crate::nn::ops::{self, HIDDEN};
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
    /// The items for which `wanted`, and where each of the table's stands among them ([`HIDDEN`]: nowhere).
    fn pick(&self, wanted: impl Fn(usize) -> bool) -> (Arc<Vec<u32>>, Vec<u32>) {
        let mut present = vec![];
        let mut place = Vec::with_capacity(self.ids.len());
        for &i in self.ids.iter() {
            if wanted(i as usize) {
                place.push(present.len() as u32);
                present.push(i);
            } else {
                place.push(HIDDEN);
            }
        }
        (Arc::new(present), place)
    }
}

/// Rows of the items that were [picked](ItemTable::pick), packed as `segments`, spread over all items of the table: where each
/// row comes from, and how they are packed. An item that was not picked has one row, [`HIDDEN`].
fn spread(place: &[u32], segments: &Segments) -> (Vec<u32>, Segments) {
    let (mut rows, mut lengths) = (vec![], Vec::with_capacity(place.len()));
    for &p in place {
        if p == HIDDEN {
            rows.push(HIDDEN);
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
fn spread_rows(pass: &Pass, rows: &Act, place: &[u32]) -> Result<Act> {
    let none = rows.dims2()?.0 as u32;
    let at = place.iter().map(|&p| if p == HIDDEN { none } else { p });
    ops::gather(pass, &ops::with_nothing(pass, rows)?, Arc::new(at.collect()))
}

/// A row that nobody reads, in the place of no row at all.
fn nothing(d: usize, device: &Device) -> Result<Act> {
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
    fn frozen(&self) -> Vec<(Modality, Depth)> {
        vec![]
    }
    /// What that part makes of the items, row after row. No gradient.
    fn prefix(&self, items: &ItemTable, modality: Modality, depth: Depth) -> Result<Vec<f32>> {
        let _ = (modality, depth);
        crate::nn::host::to_vec(self.encode(items, &Pass::eval())?.value())
    }
    /// The width of such a row.
    fn prefix_width(&self, modality: Modality, depth: Depth) -> usize {
        let _ = (modality, depth);
        self.dim()
    }
    /// How many rows that is for an item.
    fn prefix_rows(&self, modality: Modality, features: &Features, depth: Depth, item: usize) -> usize {
        let _ = (modality, features, depth, item);
        1
    }
}
