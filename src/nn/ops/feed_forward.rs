//! Feed-forward part of a transformer: two linear maps with an activation function between them, in blocks of rows.
//!
//! Only the input of the activation function is stored for the backward pass. Its output, four times as wide as the
//! other values, exists for one block at a time.

use super::linear::fill_bias;
use super::{activation, linear};
use crate::error::Result;
use crate::nn::Linear;
use crate::nn::adapter::LinearAdapter;
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{
    Activation, CHUNK, ROWS, activate, activate_back_both, add_assign, bias_activate, column_sums,
};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::Tensor;
use rayon::prelude::*;

/// Rows per block; fixed, so that sums depend only on the input.
const BLOCK: usize = 2048;

/// Feed-forward part outer(f(inner(x))): x (t, d) → (t, n).
pub fn feed_forward(pass: &Pass, x: &Act, inner: &Linear, f: Activation, outer: &Linear) -> Result<Act> {
    let updated = [inner, outer].iter().any(|l| !matches!(l.update, LinearAdapter::None));
    if updated || !pass.fused(x.value().device()) {
        let y = linear(pass, x, inner)?;
        let y = activation(pass, &y, f)?;
        return linear(pass, &y, outer);
    }
    let (t, d) = x.dims2()?;
    let (wide, n) = (inner.outputs(), outer.outputs());
    let records = pass.records_with(x.tracked(), inner.weights().chain(outer.weights()));
    let mut before = if records { scratch(t * wide) } else { vec![] };
    let mut after = scratch(BLOCK.min(t) * wide);
    let mut y = scratch(t * n);
    {
        let (xh, w1, w2) = (host(x.value())?, inner.weight.value(), outer.weight.value());
        let (w1, w2) = (host(&w1)?, host(&w2)?);
        let b1 = inner.bias.as_ref().map(|b| b.value());
        let b1 = b1.as_ref().map(host).transpose()?;
        let b1: Option<&[f32]> = b1.as_deref();
        for from in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - from);
            let xs = &xh[from * d..(from + rows) * d];
            let u = &mut after[..rows * wide];
            if records {
                let z = &mut before[from * wide..(from + rows) * wide];
                sgemm(rows, wide, d, 1.0, Mat::new(xs, d), Mat::t(&w1, d), 0.0, z, wide, true);
                u.par_chunks_mut(wide * ROWS).zip(z.par_chunks_mut(wide * ROWS)).for_each(|(u, z)| {
                    if let Some(b) = b1 {
                        z.chunks_exact_mut(wide).for_each(|z| add_assign(z, b));
                    }
                    activate(f, z, u);
                });
            } else {
                sgemm(rows, wide, d, 1.0, Mat::new(xs, d), Mat::t(&w1, d), 0.0, u, wide, true);
                u.par_chunks_mut(wide * ROWS)
                    .for_each(|u| u.chunks_exact_mut(wide).for_each(|u| bias_activate(f, u, b1)));
            }
            let ys = &mut y[from * n..(from + rows) * n];
            fill_bias(ys, n, 0, outer)?;
            let beta = if outer.bias.is_some() { 1.0 } else { 0.0 };
            sgemm(rows, n, wide, 1.0, Mat::new(u, wide), Mat::t(&w2, wide), beta, ys, n, true);
        }
    }
    let back = records.then(|| {
        let (x, node, inner, outer) = (x.value().clone(), x.node(), inner.clone(), outer.clone());
        move |g: Tensor, grads: &mut Grads| backward(&x, node, &inner, f, &outer, &before, &g, grads)
    });
    Ok(pass.result(tensor(y, (t, n))?, back))
}

fn backward(
    x: &Tensor,
    node: Option<usize>,
    inner: &Linear,
    f: Activation,
    outer: &Linear,
    before: &[f32],
    g: &Tensor,
    grads: &mut Grads,
) -> Result<()> {
    let (t, d) = x.dims2()?;
    let (wide, n) = (inner.outputs(), outer.outputs());
    let mut dx = if node.is_some() { scratch(t * d) } else { vec![] };
    {
        let (xh, gh, w1, w2) = (host(x)?, host(g)?, inner.weight.value(), outer.weight.value());
        let (w1, w2) = (host(&w1)?, host(&w2)?);
        let (mut after, mut du) = (scratch(BLOCK.min(t) * wide), scratch(BLOCK.min(t) * wide));
        for from in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - from);
            let (xs, gs) = (&xh[from * d..(from + rows) * d], &gh[from * n..(from + rows) * n]);
            let (u, du) = (&mut after[..rows * wide], &mut du[..rows * wide]);
            sgemm(rows, wide, n, 1.0, Mat::new(gs, n), Mat::new(&w2, wide), 0.0, du, wide, true);
            u.par_chunks_mut(CHUNK)
                .zip(du.par_chunks_mut(CHUNK))
                .zip(before[from * wide..(from + rows) * wide].par_chunks(CHUNK))
                .for_each(|((u, du), z)| activate_back_both(f, z, u, du));
            outer.weight.add_grad(|dw, beta| {
                sgemm(n, wide, rows, 1.0, Mat::t(gs, n), Mat::new(u, wide), beta, dw, wide, true);
            });
            inner.weight.add_grad(|dw, beta| {
                sgemm(wide, d, rows, 1.0, Mat::t(du, wide), Mat::new(xs, d), beta, dw, d, true);
            });
            if let Some(b) = &outer.bias {
                b.add_grad(|db, beta| column_sums(gs, n, 0, n, db, beta));
            }
            if let Some(b) = &inner.bias {
                b.add_grad(|db, beta| column_sums(du, wide, 0, wide, db, beta));
            }
            if node.is_some() {
                let dx = &mut dx[from * d..(from + rows) * d];
                sgemm(rows, d, wide, 1.0, Mat::new(du, wide), Mat::new(&w1, d), 0.0, dx, d, true);
            }
        }
    }
    if node.is_some() {
        grads.add(node, tensor(dx, (t, d))?)?;
    }
    grads.done(inner.weights().chain(outer.weights()))
}
