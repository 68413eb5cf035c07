//! Operations that combine activations: sums, concatenation, gating, scaling, normalised rows, running means.

use super::composed::composed;
use super::dropout::Mask;
use crate::error::{Error, Result};
use crate::nn::Segments;
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{CHUNK, ROWS, add_assign, axpy, dot, gate_row, gate_row_back};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Sum a + dropout(b, p) of two activations of the same shape.
pub fn add(pass: &Pass, a: &Act, b: &Act, p: f32) -> Result<Act> {
    let mask = Mask::of(pass, p);
    if a.value().shape() != b.value().shape() {
        return Err(Error::Numeric(format!("add: {:?} and {:?}", a.value().shape(), b.value().shape())));
    }
    if !pass.fused(a.value().device()) {
        let m = mask.map(|m| m.tensor(b.value().shape(), b.value().device())).transpose()?;
        return composed(pass, &[a, b], &[], |x, _| {
            Ok(match &m {
                Some(m) => (&x[0] + (&x[1] * m)?)?,
                None => (&x[0] + &x[1])?,
            })
        });
    }
    let masked = move |t: &Tensor, onto: Option<&Tensor>| -> Result<Tensor> {
        let mut y = scratch(t.elem_count());
        let th = host(t)?;
        let oh = onto.map(host).transpose()?;
        let (ts, os): (&[f32], Option<&[f32]>) = (&th, oh.as_deref());
        y.par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| {
            let at = i * CHUNK;
            y.copy_from_slice(&ts[at..at + y.len()]);
            if let Some(m) = mask {
                m.apply(y, at);
            }
            if let Some(o) = os {
                add_assign(y, &o[at..at + y.len()]);
            }
        });
        tensor(y, t.shape())
    };
    let y = masked(b.value(), Some(a.value()))?;
    let back = pass.records(a.tracked() || b.tracked()).then(|| {
        let (an, bn) = (a.node(), b.node());
        move |g: Tensor, grads: &mut Grads| {
            if bn.is_some() {
                grads.add(bn, if mask.is_some() { masked(&g, None)? } else { g.clone() })?;
            }
            grads.add(an, g)
        }
    });
    Ok(pass.result(y, back))
}

/// Concatenates columns: (t, d₁), (t, d₂), … → (t, Σ dᵢ).
pub fn concat_columns(pass: &Pass, parts: &[&Act]) -> Result<Act> {
    let Some(device) = parts.first().map(|p| p.value().device().clone()) else {
        return Err(Error::Numeric("concat_columns: no parts".into()));
    };
    if !pass.fused(&device) {
        return composed(pass, parts, &[], |a, _| Ok(Tensor::cat(a, 1)?));
    }
    let t = parts[0].dims2()?.0;
    let widths = parts.iter().map(|p| Ok(p.dims2()?.1)).collect::<Result<Vec<usize>>>()?;
    let n: usize = widths.iter().sum();
    let mut y = scratch(t * n);
    let mut at = 0;
    for (p, &w) in parts.iter().zip(&widths) {
        let h = host(p.value())?;
        if h.len() != t * w {
            return Err(Error::Numeric("concat_columns: parts of different length".into()));
        }
        for (y, x) in y.chunks_exact_mut(n).zip(h.chunks_exact(w)) {
            y[at..at + w].copy_from_slice(x);
        }
        at += w;
    }
    let back = pass.records(parts.iter().any(|p| p.tracked())).then(|| {
        let nodes: Vec<_> = parts.iter().map(|p| p.node()).collect();
        move |g: Tensor, grads: &mut Grads| {
            let mut at = 0;
            for (&node, &w) in nodes.iter().zip(&widths) {
                if node.is_some() {
                    let mut dx = scratch(t * w);
                    let gh = host(&g)?;
                    for (d, g) in dx.chunks_exact_mut(w).zip(gh.chunks_exact(n)) {
                        d.copy_from_slice(&g[at..at + w]);
                    }
                    drop(gh);
                    grads.add(node, tensor(dx, (t, w))?)?;
                }
                at += w;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(y, (t, n))?, back))
}

/// Concatenates rows: (t₁, d), (t₂, d) → (t₁ + t₂, d).
pub fn concat_rows(pass: &Pass, a: &Act, b: &Act) -> Result<Act> {
    let ((ta, d), (tb, other)) = (a.dims2()?, b.dims2()?);
    if d != other {
        return Err(Error::Numeric(format!("concat_rows: rows of {d} and of {other}")));
    }
    let y = Tensor::cat(&[a.value(), b.value()], 0)?;
    let back = pass.records(a.tracked() || b.tracked()).then(|| {
        let (an, bn) = (a.node(), b.node());
        move |g: Tensor, grads: &mut Grads| {
            for (node, from, n) in [(an, 0, ta), (bn, ta, tb)] {
                if node.is_some() {
                    grads.add(node, g.narrow(0, from, n)?.contiguous()?)?;
                }
            }
            Ok(())
        }
    });
    Ok(pass.result(y, back))
}

/// Gate σ(a) ⊙ b of two activations of the same shape.
pub fn sigmoid_gate(pass: &Pass, a: &Act, b: &Act) -> Result<Act> {
    if a.value().shape() != b.value().shape() {
        return Err(Error::Numeric(format!("sigmoid_gate: {:?} and {:?}", a.value().shape(), b.value().shape())));
    }
    if !pass.fused(a.value().device()) {
        return composed(pass, &[a, b], &[], |x, _| Ok((candle_nn::ops::sigmoid(&x[0])? * &x[1])?));
    }
    let mut y = scratch(a.value().elem_count());
    {
        let (ah, bh) = (host(a.value())?, host(b.value())?);
        y.par_chunks_mut(CHUNK).zip(ah.par_chunks(CHUNK)).zip(bh.par_chunks(CHUNK)).for_each(|((y, a), b)| {
            gate_row(a, b, y);
        });
    }
    let back = pass.records(a.tracked() || b.tracked()).then(|| {
        let (an, bn, av, bv) = (a.node(), b.node(), a.value().clone(), b.value().clone());
        move |g: Tensor, grads: &mut Grads| {
            let (mut da, mut db) = (scratch(g.elem_count()), scratch(g.elem_count()));
            {
                let (ah, bh, gh) = (host(&av)?, host(&bv)?, host(&g)?);
                da.par_chunks_mut(CHUNK).zip(db.par_chunks_mut(CHUNK)).enumerate().for_each(|(i, (da, db))| {
                    let r = i * CHUNK..i * CHUNK + da.len();
                    gate_row_back(&ah[r.clone()], &bh[r.clone()], &gh[r], da, db);
                });
            }
            grads.add(an, tensor(da, av.shape())?)?;
            grads.add(bn, tensor(db, bv.shape())?)
        }
    });
    Ok(pass.result(tensor(y, a.value().shape())?, back))
}

/// Scales by a constant: factor · x.
pub fn scale(pass: &Pass, x: &Act, factor: f32) -> Result<Act> {
    if factor == 1.0 {
        return Ok(x.clone());
    }
    let scaled = move |t: &Tensor| -> Result<Tensor> { Ok(t.affine(f64::from(factor), 0.0)?) };
    let y = scaled(x.value())?;
    let back = pass.records(x.tracked()).then(|| {
        let node = x.node();
        move |g: Tensor, grads: &mut Grads| grads.add(node, scaled(&g)?)
    });
    Ok(pass.result(y, back))
}

/// Lower bound of a row's length in normalisation, so that a zero row does not divide by zero.
const SHORTEST: f32 = 1e-12;

/// Normalises each row of x (t, d) to length `factor`: factor · x / ‖x‖.
pub fn normalize_rows(pass: &Pass, x: &Act, factor: f32) -> Result<Act> {
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x], &[], |a, _| {
            let norm = (a[0].sqr()?.sum_keepdim(1)? + f64::from(SHORTEST * SHORTEST))?.sqrt()?;
            Ok((a[0].broadcast_div(&norm)? * f64::from(factor))?)
        });
    }
    let (t, d) = x.dims2()?;
    let mut y = host(x.value())?.to_vec();
    normalize_rows_in_place(&mut y, d, factor);
    let value = tensor(y, (t, d))?;
    let back = pass.records(x.tracked()).then(|| {
        let (node, x) = (x.node(), x.value().clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = scratch(t * d);
            {
                let (xh, gh) = (host(&x)?, host(&g)?);
                let (xs, gs): (&[f32], &[f32]) = (&xh, &gh);
                dx.par_chunks_mut(d * ROWS).enumerate().for_each(|(block, dx)| {
                    for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                        let at = (block * ROWS + i) * d;
                        let (x, g) = (&xs[at..at + d], &gs[at..at + d]);
                        let r = 1.0 / dot(x, x).sqrt().max(SHORTEST);
                        let along = dot(x, g) * r * r;
                        for ((o, &x), &g) in dx.iter_mut().zip(x).zip(g) {
                            *o = factor * r * (g - along * x);
                        }
                    }
                });
            }
            grads.add(node, tensor(dx, (t, d))?)
        }
    });
    Ok(pass.result(value, back))
}

/// Normalises each row of x (n, d) to length `factor`, in place, without recording.
pub fn normalize_rows_in_place(x: &mut [f32], d: usize, factor: f32) {
    x.par_chunks_mut(d * ROWS).for_each(|block| {
        for row in block.chunks_exact_mut(d) {
            let k = factor / dot(row, row).sqrt().max(SHORTEST);
            row.iter_mut().for_each(|v| *v *= k);
        }
    });
}

/// Running mean of each packed sequence of x (t, d) → (t, d): row i of a sequence becomes the mean of its rows 0 … i.
pub fn running_mean(pass: &Pass, x: &Act, segments: &Segments) -> Result<Act> {
    let (t, d) = x.dims2()?;
    if !pass.fused(x.value().device()) {
        // Pad to the longest sequence, multiply by a lower triangle of 1/(i+1), and pack again.
        let (n, l, device) = (segments.len(), segments.longest(), x.value().device());
        let (mut rows, mut back, mut m) = (vec![0u32; n * l], vec![0u32; t], vec![0f32; l * l]);
        (0..l).for_each(|i| m[i * l..][..=i].fill(1.0 / (i + 1) as f32));
        for (s, (at, len)) in segments.iter().enumerate() {
            for i in 0..len {
                (rows[s * l + i], back[at + i]) = ((at + i) as u32, (s * l + i) as u32);
            }
        }
        let (rows, back) = (Tensor::new(rows, device)?, Tensor::new(back, device)?);
        let m = Tensor::from_vec(m, (1, l, l), &Device::Cpu)?.to_device(device)?;
        return composed(pass, &[x], &[], |a, _| {
            let padded = a[0].index_select(&rows, 0)?.reshape((n, l, d))?;
            let y = m.broadcast_as((n, l, l))?.contiguous()?.matmul(&padded)?;
            Ok(y.reshape((n * l, d))?.index_select(&back, 0)?)
        });
    }
    let mut y = scratch(t * d);
    {
        let xh = host(x.value())?;
        let xs: &[f32] = &xh;
        by_sequence(&mut y, segments, d).for_each(|(at, y)| {
            let mut sum = vec![0f32; d];
            for (i, y) in y.chunks_exact_mut(d).enumerate() {
                add_assign(&mut sum, &xs[(at + i) * d..(at + i + 1) * d]);
                y.fill(0.0);
                axpy(y, 1.0 / (i + 1) as f32, &sum);
            }
        });
    }
    let back = pass.records(x.tracked()).then(|| {
        let (node, segments) = (x.node(), segments.clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = scratch(t * d);
            {
                let gh = host(&g)?;
                let gs: &[f32] = &gh;
                by_sequence(&mut dx, &segments, d).for_each(|(at, dx)| {
                    let mut sum = vec![0f32; d];
                    for (i, dx) in dx.chunks_exact_mut(d).enumerate().rev() {
                        axpy(&mut sum, 1.0 / (i + 1) as f32, &gs[(at + i) * d..(at + i + 1) * d]);
                        dx.copy_from_slice(&sum);
                    }
                });
            }
            grads.add(node, tensor(dx, (t, d))?)
        }
    });
    Ok(pass.result(tensor(y, (t, d))?, back))
}

/// Splits `rows` by sequence into parallel jobs of (first row, elements).
pub(super) fn by_sequence<'a>(
    rows: &'a mut [f32],
    segments: &Segments,
    d: usize,
) -> impl IndexedParallelIterator<Item = (usize, &'a mut [f32])> {
    let mut rest = rows;
    let mut parts = Vec::with_capacity(segments.len());
    for (at, len) in segments.iter() {
        let (a, b) = rest.split_at_mut(len * d);
        parts.push((at, a));
        rest = b;
    }
    parts.into_par_iter().with_min_len(4)
}
