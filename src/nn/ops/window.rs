//! Attention inside windows of equal size, with a learned bias by relative position (Swin; Liu et al. 2021).

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::Weight;
use crate::nn::gemm::{Mat, sgemm, sgemm_at};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{add_assign, softmax, softmax_back};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{D, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Values added to the attention scores of each window.
#[derive(Clone)]
pub struct WindowBias {
    /// Learned biases, shape (entries, heads).
    pub table: Weight,
    /// Row of `table` for each of the l × l pairs of positions.
    pub index: Arc<Vec<u32>>,
    /// For each window of an image l × l values: a large negative number where two positions must not attend to each
    /// other, otherwise 0. `None` means that all positions attend to each other.
    pub mask: Option<Arc<Vec<f32>>>,
}

impl WindowBias {
    /// Biases of all pairs of positions, shape (heads, l, l).
    fn expanded(&self, heads: usize) -> Result<Vec<f32>> {
        let t = self.table.value();
        let t = host(&t)?;
        let n = self.index.len();
        let mut out = scratch(heads * n);
        for (h, out) in out.chunks_exact_mut(n).enumerate() {
            out.iter_mut().zip(self.index.iter()).for_each(|(o, &i)| *o = t[i as usize * heads + h]);
        }
        Ok(out)
    }
    fn of_window(&self, window: usize, l: usize) -> Option<&[f32]> {
        let mask = self.mask.as_ref()?;
        let windows = mask.len() / (l * l);
        Some(&mask[window % windows * l * l..][..l * l])
    }
}

/// Sizes of a window attention.
#[derive(Clone, Copy)]
struct Shape {
    windows: usize,
    heads: usize,
    /// Number of positions per window.
    l: usize,
    /// Total width of all heads.
    d: usize,
    /// Width of one head.
    hd: usize,
    /// Scale of the scores, 1/√hd.
    scale: f32,
}

/// Window attention qkv (windows · l, 3d) → (windows · l, d); each window attends only to itself.
pub fn window_attention(pass: &Pass, qkv: &Act, l: usize, heads: usize, bias: &WindowBias) -> Result<Act> {
    let (t, d3) = qkv.dims2()?;
    let d = d3 / 3;
    let (hd, windows) = (d / heads, t / l);
    if bias.index.len() != l * l || windows * l != t {
        return Err(Error::Numeric(format!("windows of {l} places in {t} rows")));
    }
    let shape = Shape { windows, heads, l, d, hd, scale: 1.0 / (hd as f32).sqrt() };
    if !pass.fused(qkv.value().device()) {
        return by_parts(pass, qkv, bias, shape);
    }
    let (p, out) = forward(&*host(qkv.value())?, bias, shape)?;
    let back = pass.records_with(qkv.tracked(), [&bias.table]).then(|| {
        let (qkv, node, bias) = (qkv.value().clone(), qkv.node(), bias.clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut ds = p;
            let dx = backward(&*host(&qkv)?, &*host(&g)?, &mut ds, shape);
            add_bias_grad(&bias, &ds, shape);
            grads.done([&bias.table])?;
            if node.is_some() {
                grads.add(node, tensor(dx, (t, d3))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(out, (t, d))?, back))
}

/// Attention probabilities (windows, heads, l, l) and the output (windows · l, d).
fn forward(x: &[f32], bias: &WindowBias, shape: Shape) -> Result<(Vec<f32>, Vec<f32>)> {
    let Shape { windows, heads, l, d, hd, scale } = shape;
    let (d3, square) = (3 * d, l * l);
    let expanded = bias.expanded(heads)?;
    let mut p = scratch(windows * heads * square);
    let mut out = scratch(windows * l * d);
    let o = SharedMut::new(&mut out);
    p.par_chunks_mut(heads * square).enumerate().for_each(|(window, p)| {
        let at = window * l;
        for (head, p) in p.chunks_exact_mut(square).enumerate() {
            let q = &x[at * d3 + head * hd..];
            p.copy_from_slice(&expanded[head * square..][..square]);
            if let Some(m) = bias.of_window(window, l) {
                add_assign(p, m);
            }
            sgemm(l, l, hd, scale, Mat::new(q, d3), Mat::t(&q[d..], d3), 1.0, p, l, false);
            p.chunks_exact_mut(l).for_each(|row| {
                softmax(row);
            });
            let to = at * d + head * hd;
            // SAFETY: this window's rows and this head's columns lie inside `out`, and only this job writes them.
            unsafe { sgemm_at(l, hd, l, 1.0, Mat::new(p, l), Mat::new(&q[2 * d..], d3), 0.0, o.at(to), d, false) };
        }
    });
    Ok((p, out))
}

/// Gradient of qkv from the gradient `gs` of the output. `p` holds the probabilities and receives the gradient of the
/// scores.
fn backward(x: &[f32], gs: &[f32], p: &mut [f32], shape: Shape) -> Vec<f32> {
    let Shape { windows, heads, l, d, hd, scale } = shape;
    let (d3, square) = (3 * d, l * l);
    let mut dx = scratch(windows * l * d3);
    let o = SharedMut::new(&mut dx);
    p.par_chunks_mut(heads * square).enumerate().for_each(|(window, p)| {
        let at = window * l;
        let mut buffer = vec![0f32; square];
        for (head, p) in p.chunks_exact_mut(square).enumerate() {
            let from = at * d3 + head * hd;
            let (q, g) = (&x[from..], &gs[at * d + head * hd..]);
            let (dq, dk, dv) = (from, from + d, from + 2 * d);
            // SAFETY (all three): this window's rows and this head's columns of dq, dk, dv are written only by this
            // job.
            unsafe { sgemm_at(l, hd, l, 1.0, Mat::t(p, l), Mat::new(g, d), 0.0, o.at(dv), d3, false) };
            sgemm(l, l, hd, 1.0, Mat::new(g, d), Mat::t(&q[2 * d..], d3), 0.0, &mut buffer, l, false);
            for (p, b) in p.chunks_exact(l).zip(buffer.chunks_exact_mut(l)) {
                softmax_back(p, b, 1.0);
            }
            // From here on `p` holds the gradient of the scores.
            p.copy_from_slice(&buffer);
            unsafe {
                sgemm_at(l, hd, l, scale, Mat::new(p, l), Mat::new(&q[d..], d3), 0.0, o.at(dq), d3, false);
                sgemm_at(l, hd, l, scale, Mat::t(p, l), Mat::new(q, d3), 0.0, o.at(dk), d3, false);
            }
        }
    });
    dx
}

/// Adds the gradient of the bias table, from the gradient of the scores: their sum over the windows, added per entry.
fn add_bias_grad(bias: &WindowBias, ds: &[f32], shape: Shape) {
    let (heads, square) = (shape.heads, shape.l * shape.l);
    let mut total = vec![0f32; heads * square];
    ds.chunks_exact(heads * square).for_each(|w| add_assign(&mut total, w));
    bias.table.add_grad(|out, beta| {
        if beta == 0.0 {
            out.fill(0.0);
        }
        for (h, total) in total.chunks_exact(square).enumerate() {
            total.iter().zip(bias.index.iter()).for_each(|(v, &i)| out[i as usize * heads + h] += v);
        }
    });
}

/// Composed path: window attention with candle's differentiable operations.
fn by_parts(pass: &Pass, qkv: &Act, bias: &WindowBias, shape: Shape) -> Result<Act> {
    let Shape { windows, heads, l, d, hd, scale } = shape;
    let device = qkv.value().device().clone();
    let index = Tensor::new(bias.index.as_slice(), &device)?;
    let mask = match &bias.mask {
        None => None,
        Some(m) => {
            let per = m.len() / (l * l);
            Some(Tensor::from_slice(m, (1, per, 1, l, l), &device)?)
        }
    };
    composed(pass, &[qkv], &[&bias.table], |a, w| {
        let part = |i: usize| -> Result<Tensor> {
            Ok(a[0].narrow(1, i * d, d)?.reshape((windows, l, heads, hd))?.transpose(1, 2)?.contiguous()?)
        };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let b = w[0].index_select(&index, 0)?.t()?.contiguous()?.reshape((1, heads, l, l))?;
        let mut s = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * f64::from(scale))?.broadcast_add(&b)?;
        if let Some(m) = &mask {
            let per = m.dim(1)?;
            s = s.reshape((windows / per, per, heads, l, l))?.broadcast_add(m)?.reshape((windows, heads, l, l))?;
        }
        let p = candle_nn::ops::softmax(&s, D::Minus1)?;
        Ok(p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((windows * l, d))?)
    })
}
