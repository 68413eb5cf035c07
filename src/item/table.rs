//! The distinct items of a batch, and the mapping between them and the items that have a modality.

use super::features::Features;
use crate::error::Result;
use crate::nn::ops::{self, MASKED};
use crate::nn::{Act, Pass, Segments};
use candle_core::{DType, Device, Tensor};
use std::sync::Arc;

/// The distinct items of a batch, with the content of the catalogue.
#[derive(Clone, Copy)]
pub struct ItemTable<'a> {
    /// Candidate indices (rows of `features`), each at most once.
    pub ids: &'a Arc<Vec<u32>>,
    /// Content of the whole catalogue.
    pub features: &'a Features,
}

impl ItemTable<'_> {
    /// The items for which `wanted` returns true, and for each item of the table its position among them, or
    /// [`MASKED`].
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

/// Extends packed rows of the items selected by [`ItemTable::partition`] to all items of the table: returns the source
/// row of each row, and the new segments. An item that was not selected has one row, [`MASKED`].
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

/// Extends the rows of the items selected by [`ItemTable::partition`] to one row per item of the table, with zeros for
/// the others.
pub(super) fn scatter_rows(pass: &Pass, rows: &Act, position: &[u32]) -> Result<Act> {
    let none = rows.dims2()?.0 as u32;
    let at = position.iter().map(|&p| if p == MASKED { none } else { p });
    ops::gather(pass, &ops::append_zero_row(pass, rows)?, Arc::new(at.collect()))
}

/// One row of zeros (1, d), used where no item has the modality, because the operations do not take empty values.
pub(super) fn zero_row(d: usize, device: &Device) -> Result<Act> {
    Ok(Act::constant(Tensor::zeros((1, d), DType::F32, device)?))
}
