//! Multi-head attention over packed sequences (Vaswani et al. 2017). Each sequence attends only to itself, so no
//! padding is computed. There is one parallel job per (sequence, head).

use super::composed::composed;
use super::dropout::Mask;
use crate::error::Result;
use crate::nn::Segments;
use crate::nn::gemm::{Mat, sgemm, sgemm_at};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{softmax_back, softmax_square};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{D, Device, Tensor};
use rayon::prelude::*;

/// Settings of an attention: number of heads, causality, dropout on the attention weights.
#[derive(Debug, Clone, Copy)]
pub struct AttentionSpec {
    /// Number of heads; must divide the width d.
    pub heads: usize,
    /// Whether position i attends only to positions ≤ i.
    pub causal: bool,
    /// Dropout probability of the attention weights.
    pub dropout: f32,
}

/// Self-attention of qkv (t, 3d), the columns query | key | value → (t, d).
pub fn attention(pass: &Pass, qkv: &Act, segments: &Segments, spec: AttentionSpec) -> Result<Act> {
    let mask = Mask::of(pass, spec.dropout);
    if !pass.fused(qkv.value().device()) {
        return padded(pass, qkv, segments, spec, mask);
    }
    let (t, d3) = qkv.dims2()?;
    let (d, h) = (d3 / 3, spec.heads);
    let hd = d / h;
    let squares = segments.squares(h);
    let records = pass.records(qkv.tracked());
    // The weights of long sequences are recomputed in the backward pass; a pass that does not record stores none.
    let keeps = records && segments.longest() <= LONGEST;
    let mut p = scratch(if keeps { squares[segments.len()] } else { 0 });
    let mut out = scratch(t * d);
    let scale = 1.0 / (hd as f32).sqrt();
    {
        let x = host(qkv.value())?;
        let (x, o): (&[f32], SharedMut) = (&x, SharedMut::new(&mut out));
        each_sequence(&mut p, segments, if keeps { h } else { 0 }).for_each(|(i, kept)| {
            let (at, l) = segments.get(i);
            let mut dropped = vec![0f32; if mask.is_some() { l * l } else { 0 }];
            let mut own = scratch(if keeps { 0 } else { l * l });
            for head in 0..h {
                let p = if keeps { &mut kept[head * l * l..][..l * l] } else { &mut own[..] };
                let q = &x[at * d3 + head * hd..];
                weights(q, d3, d, l, hd, scale, spec.causal, p);
                let mut used: &[f32] = p;
                if let Some(m) = mask {
                    dropped.copy_from_slice(p);
                    m.apply(&mut dropped, squares[i] + head * l * l);
                    used = &dropped;
                }
                // SAFETY: rows at..at+l and the columns of this head lie inside `out`, and only this job writes them.
                unsafe {
                    sgemm_at(
                        l,
                        hd,
                        l,
                        1.0,
                        Mat::new(used, l),
                        Mat::new(&q[2 * d..], d3),
                        0.0,
                        o.at(at * d + head * hd),
                        d,
                        false,
                    );
                }
            }
        });
    }
    let back = records.then(|| {
        let (qkv, node, segments) = (qkv.value().clone(), qkv.node(), segments.clone());
        move |g: Tensor, grads: &mut Grads| {
            let dx = backward(&qkv, &segments, spec, mask, p, &g)?;
            grads.add(node, dx)
        }
    });
    Ok(pass.result(tensor(out, (t, d))?, back))
}

/// Longest sequence whose attention weights are stored for the backward pass.
const LONGEST: usize = 128;

/// Attention weights softmax(scale · q·kᵀ) of one head of one sequence. `q` starts at the sequence's first row; rows
/// are `wide` elements apart, and the keys lie `d` elements after the queries.
fn weights(q: &[f32], wide: usize, d: usize, l: usize, hd: usize, scale: f32, causal: bool, p: &mut [f32]) {
    sgemm(l, l, hd, scale, Mat::new(q, wide), Mat::t(&q[d..], wide), 0.0, p, l, false);
    softmax_square(p, l, causal);
}

/// Splits the buffer of attention weights by sequence.
fn each_sequence<'a>(
    p: &'a mut [f32],
    segments: &Segments,
    heads: usize,
) -> impl IndexedParallelIterator<Item = (usize, &'a mut [f32])> {
    let mut rest = p;
    let mut parts = Vec::with_capacity(segments.len());
    for (_, l) in segments.iter() {
        let (a, b) = rest.split_at_mut(heads * l * l);
        parts.push(a);
        rest = b;
    }
    parts.into_par_iter().enumerate()
}

fn backward(
    qkv: &Tensor,
    segments: &Segments,
    spec: AttentionSpec,
    mask: Option<Mask>,
    mut p: Vec<f32>,
    g: &Tensor,
) -> Result<Tensor> {
    let (t, d3) = qkv.dims2()?;
    let (d, h) = (d3 / 3, spec.heads);
    let hd = d / h;
    let scale = 1.0 / (hd as f32).sqrt();
    let squares = segments.squares(h);
    let mut dx = scratch(t * d3);
    {
        let (x, gh) = (host(qkv)?, host(g)?);
        let (x, gs, o): (&[f32], &[f32], SharedMut) = (&x, &gh, SharedMut::new(&mut dx));
        let kept = !p.is_empty();
        each_sequence(&mut p, segments, if kept { h } else { 0 }).for_each(|(i, all)| {
            let (at, l) = segments.get(i);
            let mut ds = vec![0f32; l * l];
            let mut dropped = vec![0f32; if mask.is_some() { l * l } else { 0 }];
            let mut own = scratch(if kept { 0 } else { l * l });
            for head in 0..h {
                let from = at * d3 + head * hd;
                let (q, g) = (&x[from..], &gs[at * d + head * hd..]);
                let p = if kept { &mut all[head * l * l..][..l * l] } else { &mut own[..] };
                if !kept {
                    weights(q, d3, d, l, hd, scale, spec.causal, p);
                }
                let place = squares[i] + head * l * l;
                let mut used: &[f32] = p;
                if let Some(m) = mask {
                    dropped.copy_from_slice(p);
                    m.apply(&mut dropped, place);
                    used = &dropped;
                }
                // SAFETY (all three): rows at..at+l and this head's columns of dq, dk, dv are written only by this job.
                unsafe { sgemm_at(l, hd, l, 1.0, Mat::t(used, l), Mat::new(g, d), 0.0, o.at(from + 2 * d), d3, false) };
                sgemm(l, l, hd, 1.0, Mat::new(g, d), Mat::t(&q[2 * d..], d3), 0.0, &mut ds, l, false);
                if let Some(m) = mask {
                    m.apply(&mut ds, place);
                }
                for (p, ds) in p.chunks_exact(l).zip(ds.chunks_exact_mut(l)) {
                    softmax_back(p, ds, scale);
                }
                unsafe {
                    sgemm_at(l, hd, l, 1.0, Mat::new(&ds, l), Mat::new(&q[d..], d3), 0.0, o.at(from), d3, false);
                    sgemm_at(l, hd, l, 1.0, Mat::t(&ds, l), Mat::new(q, d3), 0.0, o.at(from + d), d3, false);
                }
            }
        });
    }
    tensor(dx, (t, d3))
}

/// Composed path: pads the sequences to the longest one, computes masked attention, and packs the result again.
fn padded(pass: &Pass, qkv: &Act, segments: &Segments, spec: AttentionSpec, mask: Option<Mask>) -> Result<Act> {
    let (n, l, h) = (segments.len(), segments.longest(), spec.heads);
    let d = qkv.dims2()?.1 / 3;
    let hd = d / h;
    let device = qkv.value().device().clone();
    let squares = segments.squares(h);
    let (mut rows, mut back) = (vec![0u32; n * l], vec![]);
    let mut bias = vec![f32::MIN / 4.0; n * l * l];
    let mut drop = vec![1f32; if mask.is_some() { n * h * l * l } else { 0 }];
    for (i, (at, len)) in segments.iter().enumerate() {
        for r in 0..len {
            rows[i * l + r] = (at + r) as u32;
            back.push((i * l + r) as u32);
            let seen = if spec.causal { r + 1 } else { len };
            bias[(i * l + r) * l..(i * l + r) * l + seen].fill(0.0);
            if let Some(m) = mask {
                for head in 0..h {
                    for c in 0..len {
                        drop[((i * h + head) * l + r) * l + c] = m.factor(squares[i] + head * len * len + r * len + c);
                    }
                }
            }
        }
    }
    let rows = Tensor::from_vec(rows, n * l, &Device::Cpu)?.to_device(&device)?;
    let back = Tensor::new(back, &device)?;
    let bias = Tensor::from_vec(bias, (n, 1, l, l), &Device::Cpu)?.to_device(&device)?;
    let drop = match mask {
        Some(_) => Some(Tensor::from_vec(drop, (n, h, l, l), &Device::Cpu)?.to_device(&device)?),
        None => None,
    };
    composed(pass, &[qkv], &[], |a, _| {
        let x = a[0].index_select(&rows, 0)?.reshape((n, l, 3, h, hd))?;
        let part = |i: usize| -> Result<Tensor> { Ok(x.narrow(2, i, 1)?.squeeze(2)?.transpose(1, 2)?.contiguous()?) };
        let (q, k, v) = (part(0)?, part(1)?, part(2)?);
        let scores = (q.matmul(&k.transpose(2, 3)?.contiguous()?)? * (1.0 / (hd as f64).sqrt()))?;
        let mut p = candle_nn::ops::softmax(&scores.broadcast_add(&bias)?, D::Minus1)?;
        if let Some(m) = &drop {
            p = (p * m)?;
        }
        let y = p.matmul(&v)?.transpose(1, 2)?.contiguous()?.reshape((n * l, d))?;
        Ok(y.index_select(&back, 0)?)
    })
}
