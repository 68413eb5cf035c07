//! Dropout with reproducible masks: a mask is a hash of (seed, step, call, element) and is never stored.

use super::composed::composed;
use crate::error::Result;
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{CHUNK, drop_mask};
use crate::nn::tape::{Act, Grads, Pass};
use crate::rng::{drop_threshold, keep_bits};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Dropout mask of one call: determines which elements are kept and by how much they are scaled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mask {
    key: u64,
    threshold: u32,
    scale: f32,
}

impl Mask {
    pub(super) fn of(pass: &Pass, p: f32) -> Option<Self> {
        let key = pass.dropout_key(p)?;
        Some(Self { key, threshold: drop_threshold(p), scale: 1.0 / (1.0 - p) })
    }
    /// Applies the mask in place to elements whose indices start at `at`.
    pub(super) fn apply(self, x: &mut [f32], at: usize) {
        drop_mask(x, self.key, at as u32, self.threshold, self.scale);
    }
    /// Factor of element `i`: 0 or the scale.
    pub(super) fn factor(self, i: usize) -> f32 {
        if keep_bits(self.key, i as u32) >= self.threshold { self.scale } else { 0.0 }
    }
    /// Factors of all elements as a tensor of the given shape, for the composed path.
    pub(super) fn tensor(self, shape: &candle_core::Shape, device: &Device) -> Result<Tensor> {
        let data: Vec<f32> = (0..shape.elem_count()).map(|i| self.factor(i)).collect();
        Ok(Tensor::from_vec(data, shape.clone(), device)?)
    }
}

/// Sets each element to zero with probability `p` and scales the others by 1/(1−p); returns x unchanged in evaluation.
pub fn dropout(pass: &Pass, x: &Act, p: f32) -> Result<Act> {
    let Some(mask) = Mask::of(pass, p) else { return Ok(x.clone()) };
    if !pass.fused(x.value().device()) {
        let m = mask.tensor(x.value().shape(), x.value().device())?;
        return composed(pass, &[x], &[], |a, _| Ok((&a[0] * &m)?));
    }
    let masked = move |t: &Tensor| -> Result<Tensor> {
        let mut y = scratch(t.elem_count());
        let h = host(t)?;
        y.par_chunks_mut(CHUNK).zip(h.par_chunks(CHUNK)).enumerate().for_each(|(i, (y, x))| {
            y.copy_from_slice(x);
            mask.apply(y, i * CHUNK);
        });
        tensor(y, t.shape())
    };
    let y = masked(x.value())?;
    let back = pass.records(x.tracked()).then(|| {
        let node = x.node();
        move |g: Tensor, grads: &mut Grads| grads.add(node, masked(&g)?)
    });
    Ok(pass.result(y, back))
}
