//! Causal convolutions over packed sequences; the input before a sequence's first row is zero.

use super::combine::by_sequence;
use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{ROWS, add_assign, axpy, column_sums, dot};
use crate::nn::tape::{Act, Grads, Pass};
use crate::nn::{Linear, Segments, Weight};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Rows per block of im2col; fixed, so that sums depend only on the input.
const BLOCK: usize = 2048;

/// First row of the sequence that each row belongs to.
fn starts(segments: &Segments) -> Vec<u32> {
    segments.iter().flat_map(|(at, len)| std::iter::repeat_n(at as u32, len)).collect()
}

/// Index of the row `back`·`dilation` before `row`, or `None` if it lies before `start`, the first row of the sequence.
fn before(row: usize, start: u32, back: usize, dilation: usize) -> Option<usize> {
    row.checked_sub(back * dilation).filter(|&r| r >= start as usize)
}

/// im2col: for each row from `from` on, the k input rows under the filter, oldest first, as one row of `out` (k · d).
fn im2col(x: &[f32], d: usize, start: &[u32], from: usize, k: usize, dilation: usize, out: &mut [f32]) {
    out.par_chunks_mut(k * d * ROWS).enumerate().for_each(|(block, out)| {
        for (i, out) in out.chunks_exact_mut(k * d).enumerate() {
            let row = from + block * ROWS + i;
            for (j, slot) in out.chunks_exact_mut(d).enumerate() {
                match before(row, start[row], k - 1 - j, dilation) {
                    Some(r) => slot.copy_from_slice(&x[r * d..(r + 1) * d]),
                    None => slot.fill(0.0),
                }
            }
        }
    });
}

/// im2col with candle's operations: x (t, d) → (t, k·d).
fn im2col_composed(x: &Tensor, start: &[u32], k: usize, dilation: usize) -> Result<Tensor> {
    let (t, d) = x.dims2()?;
    let padded = Tensor::cat(&[x, &Tensor::zeros((1, d), x.dtype(), x.device())?], 0)?;
    let ids: Vec<u32> = (0..t)
        .flat_map(|row| (0..k).map(move |j| before(row, start[row], k - 1 - j, dilation).unwrap_or(t) as u32))
        .collect();
    Ok(padded.index_select(&Tensor::new(ids, x.device())?, 0)?.reshape((t, k * d))?)
}

/// Causal convolution x (t, d) → (t, n): output row i is a linear map of the concatenated input rows i −
/// (k−1)·dilation, …, i − dilation, i. The weight of `layer` is (n, k·d), with the oldest row's weights first.
pub fn causal_conv(
    pass: &Pass,
    x: &Act,
    segments: &Segments,
    layer: &Linear,
    kernel: usize,
    dilation: usize,
) -> Result<Act> {
    let (t, d) = x.dims2()?;
    let (n, wide) = (layer.outputs(), kernel * d);
    if layer.weight.shape()[1] != wide || segments.total() != t {
        return Err(Error::Numeric(format!("convolution: {kernel} rows of {d} for {:?}", layer.weight.shape())));
    }
    let start = starts(segments);
    if !pass.fused(x.value().device()) {
        let weights: Vec<&Weight> = layer.weights().collect();
        return composed(pass, &[x], &weights, |a, w| {
            let y = im2col_composed(&a[0], &start, kernel, dilation)?.matmul(&w[0].t()?)?;
            Ok(match w.get(1) {
                Some(b) => y.broadcast_add(b)?,
                None => y,
            })
        });
    }
    let mut y = scratch(t * n);
    {
        let (xh, w) = (host(x.value())?, layer.weight.value());
        let w = host(&w)?;
        let mut cols = scratch(BLOCK.min(t) * wide);
        super::linear::fill_bias(&mut y, n, 0, layer)?;
        let beta = if layer.bias.is_some() { 1.0 } else { 0.0 };
        for from in (0..t).step_by(BLOCK) {
            let rows = BLOCK.min(t - from);
            im2col(&xh, d, &start, from, kernel, dilation, &mut cols[..rows * wide]);
            let c = Mat::new(&cols, wide);
            sgemm(rows, n, wide, 1.0, c, Mat::t(&w, wide), beta, &mut y[from * n..], n, true);
        }
    }
    let back = pass.records_with(x.tracked(), layer.weights()).then(|| {
        let (x, node, layer) = (x.value().clone(), x.node(), layer.clone());
        let segments = segments.clone();
        move |g: Tensor, grads: &mut Grads| {
            let mut dcols = if node.is_some() { scratch(t * wide) } else { vec![] };
            {
                let (xh, gh, w) = (host(&x)?, host(&g)?, layer.weight.value());
                let w = host(&w)?;
                let mut cols = scratch(BLOCK.min(t) * wide);
                for from in (0..t).step_by(BLOCK) {
                    let rows = BLOCK.min(t - from);
                    let gs = &gh[from * n..(from + rows) * n];
                    im2col(&xh, d, &start, from, kernel, dilation, &mut cols[..rows * wide]);
                    layer.weight.add_grad(|dw, beta| {
                        sgemm(n, wide, rows, 1.0, Mat::t(gs, n), Mat::new(&cols, wide), beta, dw, wide, true);
                    });
                    if node.is_some() {
                        let to = &mut dcols[from * wide..];
                        sgemm(rows, wide, n, 1.0, Mat::new(gs, n), Mat::new(&w, wide), 0.0, to, wide, true);
                    }
                }
                if let Some(b) = &layer.bias {
                    b.add_grad(|db, beta| column_sums(&gh, n, 0, n, db, beta));
                }
            }
            if node.is_some() {
                let mut dx = scratch(t * d);
                by_sequence(&mut dx, &segments, d).for_each(|(at, dx)| {
                    let len = dx.len() / d;
                    for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                        dx.fill(0.0);
                        // Row i is input j of the output row that lies (k−1−j)·dilation later.
                        for j in 0..kernel {
                            let later = i + (kernel - 1 - j) * dilation;
                            if later < len {
                                let c = (at + later) * wide + j * d;
                                add_assign(dx, &dcols[c..c + d]);
                            }
                        }
                    }
                });
                grads.add(node, tensor(dx, (t, d))?)?;
            }
            grads.done(layer.weights())
        }
    });
    Ok(pass.result(tensor(y, (t, n))?, back))
}

/// Vertical convolution of Caser, x (t, d) → (t, v·d): column block f of row i is
/// `Σ_j weight[f, j] · row(i − k + 1 + j) + bias[f]`. The weight of `layer` is (v, k); a bias is required.
pub fn vertical_conv(pass: &Pass, x: &Act, segments: &Segments, layer: &Linear) -> Result<Act> {
    let (t, d) = x.dims2()?;
    let (v, k) = (layer.outputs(), layer.weight.shape()[1]);
    let Some(bias) = &layer.bias else { return Err(Error::Numeric("window sums need a bias".into())) };
    let start = starts(segments);
    let n = v * d;
    if !pass.fused(x.value().device()) {
        return vertical_conv_composed(pass, x, &start, &layer.weight, bias);
    }
    let mut y = scratch(t * n);
    {
        let (xh, w, b) = (host(x.value())?, layer.weight.value(), bias.value());
        let (w, b) = (host(&w)?, host(&b)?);
        let (xs, w, b): (&[f32], &[f32], &[f32]) = (&xh, &w, &b);
        let start = &start;
        y.par_chunks_mut(n * ROWS).enumerate().for_each(|(block, y)| {
            for (i, y) in y.chunks_exact_mut(n).enumerate() {
                let row = block * ROWS + i;
                for (f, y) in y.chunks_exact_mut(d).enumerate() {
                    y.fill(b[f]);
                    for j in 0..k {
                        if let Some(r) = before(row, start[row], k - 1 - j, 1) {
                            axpy(y, w[f * k + j], &xs[r * d..(r + 1) * d]);
                        }
                    }
                }
            }
        });
    }
    let back = pass.records_with(x.tracked(), layer.weights()).then(|| {
        let (x, node, layer) = (x.value().clone(), x.node(), layer.clone());
        let segments = segments.clone();
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = vec![0f32; if node.is_some() { t * d } else { 0 }];
            {
                let (xh, gh, w) = (host(&x)?, host(&g)?, layer.weight.value());
                let w = host(&w)?;
                let (xs, gs, w): (&[f32], &[f32], &[f32]) = (&xh, &gh, &w);
                // One partial sum per block of rows, so that the total does not depend on the number of threads.
                let parts: Vec<Vec<f32>> = (0..t.div_ceil(BLOCK))
                    .into_par_iter()
                    .map(|block| {
                        let mut dw = vec![0f32; v * k + v];
                        for row in block * BLOCK..((block + 1) * BLOCK).min(t) {
                            for f in 0..v {
                                let g = &gs[row * n + f * d..row * n + (f + 1) * d];
                                for j in 0..k {
                                    if let Some(r) = before(row, start[row], k - 1 - j, 1) {
                                        dw[f * k + j] += dot(g, &xs[r * d..(r + 1) * d]);
                                    }
                                }
                                dw[v * k + f] += g.iter().sum::<f32>();
                            }
                        }
                        dw
                    })
                    .collect();
                let total = |out: &mut [f32], beta: f32, from: usize| {
                    if beta == 0.0 {
                        out.fill(0.0);
                    }
                    let n = out.len();
                    parts.iter().for_each(|p| add_assign(out, &p[from..from + n]));
                };
                layer.weight.add_grad(|dw, beta| total(dw, beta, 0));
                if let Some(b) = &layer.bias {
                    b.add_grad(|db, beta| total(db, beta, v * k));
                }
                if node.is_some() {
                    by_sequence(&mut dx, &segments, d).for_each(|(at, dx)| {
                        let len = dx.len() / d;
                        for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                            for j in 0..k {
                                let later = i + k - 1 - j;
                                for f in 0..if later < len { v } else { 0 } {
                                    let c = (at + later) * n + f * d;
                                    axpy(dx, w[f * k + j], &gs[c..c + d]);
                                }
                            }
                        }
                    });
                }
            }
            if node.is_some() {
                grads.add(node, tensor(dx, (t, d))?)?;
            }
            grads.done(layer.weights())
        }
    });
    Ok(pass.result(tensor(y, (t, n))?, back))
}

fn vertical_conv_composed(pass: &Pass, x: &Act, start: &[u32], weight: &Weight, bias: &Weight) -> Result<Act> {
    let (t, d) = x.dims2()?;
    let (v, k) = (weight.shape()[0], weight.shape()[1]);
    composed(pass, &[x], &[weight, bias], |a, w| {
        let rows = im2col_composed(&a[0], start, k, 1)?.reshape((t, k, d))?;
        let each: Vec<Tensor> = (0..v)
            .map(|f| {
                let weight = w[0].narrow(0, f, 1)?.reshape((1, k, 1))?;
                let sum = rows.broadcast_mul(&weight)?.sum(1)?;
                Ok(sum.broadcast_add(&w[1].narrow(0, f, 1)?.reshape((1, 1))?)?)
            })
            .collect::<Result<_>>()?;
        Ok(Tensor::cat(&each, 1)?)
    })
}

/// Causal max pooling x (t, n) → (t, n): the maximum of rows i − k + 1 … i in each column, plus `bias`; rows before the
/// sequence count as 0. Among equal values the latest row gets the gradient.
pub fn causal_max_pool(pass: &Pass, x: &Act, segments: &Segments, k: usize, bias: &Weight) -> Result<Act> {
    let (t, n) = x.dims2()?;
    let start = starts(segments);
    // Row of each maximum; t if the maximum is the zero before the sequence.
    let mut from = vec![t as u32; t * n];
    let mut y = scratch(t * n);
    {
        let all = x.value().to_device(&Device::Cpu)?;
        let xh = host(&all)?;
        let b = bias.value().to_device(&Device::Cpu)?;
        let b = host(&b)?;
        let (xs, b, start): (&[f32], &[f32], &[u32]) = (&xh, &b, &start);
        y.par_chunks_mut(n * ROWS).zip(from.par_chunks_mut(n * ROWS)).enumerate().for_each(|(block, (y, from))| {
            for (i, (y, from)) in y.chunks_exact_mut(n).zip(from.chunks_exact_mut(n)).enumerate() {
                let row = block * ROWS + i;
                y.copy_from_slice(&xs[row * n..(row + 1) * n]);
                from.fill(row as u32);
                for back in 1..k {
                    let r = before(row, start[row], back, 1);
                    for (c, (y, from)) in y.iter_mut().zip(from.iter_mut()).enumerate() {
                        let v = r.map_or(0.0, |r| xs[r * n + c]);
                        if v > *y {
                            *y = v;
                            *from = r.unwrap_or(t) as u32;
                        }
                    }
                }
                add_assign(y, b);
            }
        });
    }
    if !pass.fused(x.value().device()) {
        let device = x.value().device().clone();
        let ids: Vec<u32> = (0..t * n)
            .map(|i| if from[i] == t as u32 { (t * n) as u32 } else { from[i] * n as u32 + (i % n) as u32 })
            .collect();
        return composed(pass, &[x], &[bias], |a, w| {
            let flat = Tensor::cat(&[a[0].flatten_all()?, Tensor::zeros(1, a[0].dtype(), &device)?], 0)?;
            let picked = flat.index_select(&Tensor::new(ids.as_slice(), &device)?, 0)?.reshape((t, n))?;
            Ok(picked.broadcast_add(&w[0])?)
        });
    }
    let back = pass.records_with(x.tracked(), [bias]).then(|| {
        let (node, bias) = (x.node(), bias.clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = vec![0f32; t * n];
            {
                let gh = host(&g)?;
                for (i, (&g, &r)) in gh.iter().zip(&from).enumerate() {
                    if r != t as u32 {
                        dx[r as usize * n + i % n] += g;
                    }
                }
                bias.add_grad(|db, beta| column_sums(&gh, n, 0, n, db, beta));
            }
            grads.done([&bias])?;
            if node.is_some() {
                grads.add(node, tensor(dx, (t, n))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(y, (t, n))?, back))
}
