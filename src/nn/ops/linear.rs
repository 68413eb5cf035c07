//! Linear maps; several maps of the same input write to adjacent columns of one output.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::adapter::{LinearAdapter, Lora};
use crate::nn::gemm::{Mat, sgemm, sgemm_at};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{ROWS, column_sums};
use crate::nn::tape::{Act, Grads, Pass};
use crate::nn::{Linear, Weight};
use candle_core::Tensor;
use rayon::prelude::*;

/// Applies a linear map: x (m, k) → (m, n).
pub fn linear(pass: &Pass, x: &Act, layer: &Linear) -> Result<Act> {
    linears(pass, x, &[layer])
}

/// Applies several linear maps to x (m, k) → (m, Σ nᵢ), with their outputs in adjacent columns.
pub fn linears(pass: &Pass, x: &Act, layers: &[&Linear]) -> Result<Act> {
    if let [layer] = layers
        && let LinearAdapter::In(factors) = &layer.update
    {
        return plain(pass, &super::scale_columns(pass, x, &[(0, factors)])?, layers);
    }
    let mut y = plain(pass, x, layers)?;
    let starts = layers.iter().scan(0, |at, l| {
        *at += l.outputs();
        Some(*at - l.outputs())
    });
    let mut factors = vec![];
    for (at, l) in starts.zip(layers) {
        match &l.update {
            LinearAdapter::None => {}
            LinearAdapter::Lora(lora) => y = super::add_to_columns(pass, &y, &lora_update(pass, x, lora)?, at)?,
            LinearAdapter::Out(w) => factors.push((at, w)),
            LinearAdapter::In(_) => {
                return Err(Error::Numeric("factors of the inputs of one of several maps".into()));
            }
        }
    }
    if factors.is_empty() { Ok(y) } else { super::scale_columns(pass, &y, &factors) }
}

/// LoRA update scale · x·Aᵀ·Bᵀ of x (m, k) → (m, n).
fn lora_update(pass: &Pass, x: &Act, lora: &Lora) -> Result<Act> {
    let map = |w: &Weight| Linear::of(w.clone(), None);
    let y = linear(pass, &linear(pass, x, &map(&lora.a))?, &map(&lora.b))?;
    super::scale(pass, &y, lora.scale)
}

fn plain(pass: &Pass, x: &Act, layers: &[&Linear]) -> Result<Act> {
    if !pass.fused(x.value().device()) {
        let weights: Vec<&Weight> = layers.iter().flat_map(|l| [Some(&l.weight), l.bias.as_ref()]).flatten().collect();
        return composed(pass, &[x], &weights, |a, w| {
            let mut w = w.iter();
            let mut outs = vec![];
            for l in layers {
                let (Some(weight), bias) = (w.next(), l.bias.as_ref().and_then(|_| w.next())) else { continue };
                // A filter of shape (out, in, 1, 1), or one of a patch embedding, is used as a matrix.
                let y = a[0].matmul(&weight.reshape((l.outputs(), ()))?.t()?)?;
                outs.push(match bias {
                    Some(b) => y.broadcast_add(b)?,
                    None => y,
                });
            }
            Ok(Tensor::cat(&outs, 1)?)
        });
    }
    let (m, k) = x.dims2()?;
    let n: usize = layers.iter().map(|l| l.outputs()).sum();
    let mut y = scratch(m * n);
    let mut at = 0;
    let xh = host(x.value())?;
    for l in layers {
        let w = l.weight.value();
        fill_bias(&mut y, n, at, l)?;
        let beta = if l.bias.is_some() { 1.0 } else { 0.0 };
        let (w, out) = (host(&w)?, l.outputs());
        if m > 0 {
            sgemm(m, out, k, 1.0, Mat::new(&xh, k), Mat::t(&w, k), beta, &mut y[at..], n, true);
        }
        at += out;
    }
    drop(xh);
    let records = pass.records_with(x.tracked(), layers.iter().flat_map(|l| l.weights()));
    let back = records.then(|| {
        let (x, node) = (x.value().clone(), x.node());
        let layers: Vec<Linear> = layers.iter().map(|l| (*l).clone()).collect();
        move |g: Tensor, grads: &mut Grads| backward(&x, node, &layers, &g, grads)
    });
    Ok(pass.result(tensor(y, (m, n))?, back))
}

/// Writes a layer's bias, if it has one, to its columns (from `at` on) of every row of y (rows, n).
pub(super) fn fill_bias(y: &mut [f32], n: usize, at: usize, l: &Linear) -> Result<()> {
    let Some(b) = &l.bias else { return Ok(()) };
    let (b, width) = (b.value(), l.outputs());
    let b = host(&b)?;
    let b: &[f32] = &b;
    y.par_chunks_mut(n * ROWS * 4).for_each(|c| {
        for row in c.chunks_exact_mut(n) {
            row[at..at + width].copy_from_slice(b);
        }
    });
    Ok(())
}

fn backward(x: &Tensor, node: Option<usize>, layers: &[Linear], g: &Tensor, grads: &mut Grads) -> Result<()> {
    let (m, k) = x.dims2()?;
    let n = g.dims2()?.1;
    let (gh, xh) = (host(g)?, host(x)?);
    let mut dx = if node.is_some() { scratch(m * k) } else { vec![] };
    let mut at = 0;
    for l in layers {
        let out = l.outputs();
        l.weight.add_grad(|dw, beta| {
            sgemm(out, k, m, 1.0, Mat::t(&gh[at..], n), Mat::new(&xh, k), beta, dw, k, true);
        });
        if let Some(b) = &l.bias {
            b.add_grad(|db, beta| column_sums(&gh, n, at, out, db, beta));
        }
        if node.is_some() {
            let w = l.weight.value();
            let w = host(&w)?;
            let beta = if at == 0 { 0.0 } else { 1.0 };
            let c = SharedMut::new(&mut dx);
            // SAFETY: dx holds (m, k) elements and is not shared.
            unsafe { sgemm_at(m, k, out, 1.0, Mat::new(&gh[at..], n), Mat::new(&w, k), beta, c.at(0), k, true) };
        }
        at += out;
    }
    if node.is_some() {
        grads.add(node, tensor(dx, (m, k))?)?;
    }
    grads.done(layers.iter().flat_map(|l| l.weights()))
}
