//! The distinct items of a batch, and rows of the items that have a modality among those of all.

use super::features::Features;
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
    pub(super) fn partition(&self, wanted: impl Fn(usize) -> bool) -> (Arc<Vec<u32>>, Vec<u32>) {
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
pub(super) fn scatter_segments(position: &[u32], segments: &Segments) -> (Vec<u32>, Segments) {
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
pub(super) fn scatter_rows(pass: &Pass, rows: &Act, position: &[u32]) -> Result<Act> {
    let none = rows.dims2()?.0 as u32;
    let at = position.iter().map(|&p| if p == MASKED { none } else { p });
    ops::gather(pass, &ops::append_zero_row(pass, rows)?, Arc::new(at.collect()))
}

/// One row of zeros (1, d): an operand for operations that take no empty value, where no item has the modality.
pub(super) fn zero_row(d: usize, device: &Device) -> Result<Act> {
    Ok(Act::constant(Tensor::zeros((1, d), DType::F32, device)?))
}
