//! Operations of adapters: columns scaled by learned vectors, maps of Kronecker products, learned mixtures, slices of
//! columns.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::Weight;
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{host, scratch, tensor, to_vec};
use crate::nn::kernels::{CHUNK, ROWS, add_assign, column_sums, dot};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// For each (at, w) of `parts`, multiplies the columns of x (t, n) from `at` on by the vector w; other columns stay
/// unchanged ((IA)³; Liu et al. 2022).
pub fn scale_columns(pass: &Pass, x: &Act, parts: &[(usize, &Weight)]) -> Result<Act> {
    let (t, n) = x.dims2()?;
    if parts.iter().any(|(at, w)| at + w.numel() > n) {
        return Err(Error::Numeric(format!("scale_columns: a vector reaches past {n} columns")));
    }
    let weights: Vec<&Weight> = parts.iter().map(|p| p.1).collect();
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x], &weights, |a, w| {
            let (mut pieces, mut from) = (vec![], 0);
            for ((at, _), w) in parts.iter().zip(w) {
                let w = w.flatten_all()?;
                if *at > from {
                    pieces.push(a[0].narrow(1, from, at - from)?);
                }
                pieces.push(a[0].narrow(1, *at, w.elem_count())?.broadcast_mul(&w)?);
                from = at + w.elem_count();
            }
            if from < n {
                pieces.push(a[0].narrow(1, from, n - from)?);
            }
            Ok(Tensor::cat(&pieces, 1)?)
        });
    }
    let mut factor = vec![1f32; n];
    for (at, w) in parts {
        factor[*at..*at + w.numel()].copy_from_slice(&host(&w.value().flatten_all()?)?);
    }
    let times = move |x: &Tensor, factor: &[f32]| -> Result<Tensor> {
        let mut y = scratch(t * n);
        let xh = host(x)?;
        y.par_chunks_mut(n * ROWS).zip(xh.par_chunks(n * ROWS)).for_each(|(y, x)| {
            for (y, x) in y.chunks_exact_mut(n).zip(x.chunks_exact(n)) {
                y.iter_mut().zip(x).zip(factor).for_each(|((y, x), f)| *y = x * f);
            }
        });
        drop(xh);
        tensor(y, (t, n))
    };
    let y = times(x.value(), &factor)?;
    let back = pass.records_with(x.tracked(), weights.iter().copied()).then(|| {
        let (node, x) = (x.node(), x.value().clone());
        let parts: Vec<_> = parts.iter().map(|(at, w)| (*at, (*w).clone())).collect();
        move |g: Tensor, grads: &mut Grads| {
            let mut both = vec![0f32; n];
            if parts.iter().any(|(_, w)| w.trains()) {
                let (gh, xh) = (host(&g)?, host(&x)?);
                for (g, x) in gh.chunks_exact(n).zip(xh.chunks_exact(n)) {
                    both.iter_mut().zip(g).zip(x).for_each(|((s, g), x)| *s += g * x);
                }
            }
            for (at, w) in &parts {
                w.add_grad(|dw, beta| {
                    if beta == 0.0 {
                        dw.fill(0.0);
                    }
                    add_assign(dw, &both[*at..*at + w.numel()]);
                });
            }
            if node.is_some() {
                grads.add(node, times(&g, &factor)?)?;
            }
            grads.done(parts.iter().map(|(_, w)| w))
        }
    });
    Ok(pass.result(y, back))
}

/// A linear map in → out as a sum of n Kronecker products Σᵢ Aᵢ ⊗ (lᵢ·rᵢ) (Compacter; Karimi Mahabadi et al. 2021).
#[derive(Clone)]
pub struct Kronecker {
    /// Matrices A, shape (n, n, n); several maps may share them.
    pub rule: Weight,
    /// Left factors l, shape (n, in/n, 1).
    pub left: Weight,
    /// Right factors r, shape (n, 1, out/n).
    pub right: Weight,
    /// Bias, shape (out).
    pub bias: Weight,
}

impl Kronecker {
    /// Parameters of the map.
    pub fn weights(&self) -> [&Weight; 4] {
        [&self.rule, &self.left, &self.right, &self.bias]
    }
    fn sizes(&self) -> (usize, usize, usize) {
        let n = self.rule.shape()[0];
        (n, self.left.numel() / n, self.right.numel() / n)
    }
    /// Builds the map's matrix (in, out).
    fn matrix(&self) -> Result<Vec<f32>> {
        let (n, p, q) = self.sizes();
        let [a, l, r] = [&self.rule, &self.left, &self.right].map(|w| to_vec(&w.value()));
        let (a, l, r) = (a?, l?, r?);
        let mut w = vec![0f32; n * p * n * q];
        for (at, row) in w.chunks_exact_mut(n * q).enumerate() {
            let (outer, b) = (at / p, at % p);
            for i in 0..n {
                for c in 0..n {
                    let k = a[(i * n + outer) * n + c] * l[i * p + b];
                    let r = &r[i * q..(i + 1) * q];
                    row[c * q..(c + 1) * q].iter_mut().zip(r).for_each(|(w, r)| *w += k * r);
                }
            }
        }
        Ok(w)
    }
    /// Computes the gradients of the factors from the gradient `dw` of the matrix.
    fn factors(&self, dw: &[f32]) -> Result<()> {
        let (n, p, q) = self.sizes();
        let [a, l, r] = [&self.rule, &self.left, &self.right].map(|w| to_vec(&w.value()));
        let (a, l, r) = (a?, l?, r?);
        let (mut da, mut dl, mut dr) = (vec![0f32; n * n * n], vec![0f32; n * p], vec![0f32; n * q]);
        for (at, row) in dw.chunks_exact(n * q).enumerate() {
            let (outer, b) = (at / p, at % p);
            for i in 0..n {
                for c in 0..n {
                    let (g, k) = (&row[c * q..(c + 1) * q], a[(i * n + outer) * n + c]);
                    let along = dot(g, &r[i * q..(i + 1) * q]);
                    da[(i * n + outer) * n + c] += l[i * p + b] * along;
                    dl[i * p + b] += k * along;
                    let k = k * l[i * p + b];
                    dr[i * q..(i + 1) * q].iter_mut().zip(g).for_each(|(d, g)| *d += k * g);
                }
            }
        }
        for (w, d) in [(&self.rule, da), (&self.left, dl), (&self.right, dr)] {
            w.add_grad(|out, beta| {
                if beta == 0.0 {
                    out.fill(0.0);
                }
                add_assign(out, &d);
            });
        }
        Ok(())
    }
}

/// Applies a Kronecker map: x (t, in) → (t, out).
pub fn kronecker(pass: &Pass, x: &Act, map: &Kronecker) -> Result<Act> {
    let (n, p, q) = map.sizes();
    let (t, d) = x.dims2()?;
    if d != n * p {
        return Err(Error::Numeric(format!("kronecker: {d} columns for a map of {}", n * p)));
    }
    let out = n * q;
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x], &map.weights(), |x, w| {
            let low = w[1].matmul(&w[2])?.reshape((n, 1, p, 1, q))?;
            let whole = w[0].reshape((n, n, 1, n, 1))?.broadcast_mul(&low)?.sum(0)?.reshape((d, out))?;
            Ok(x[0].matmul(&whole)?.broadcast_add(&w[3])?)
        });
    }
    let matrix = map.matrix()?;
    let mut y = scratch(t * out);
    {
        let (xh, b) = (host(x.value())?, map.bias.value());
        let b = host(&b)?;
        y.chunks_exact_mut(out).for_each(|y| y.copy_from_slice(&b));
        if t > 0 {
            sgemm(t, out, d, 1.0, Mat::new(&xh, d), Mat::new(&matrix, out), 1.0, &mut y, out, true);
        }
    }
    let back = pass.records_with(x.tracked(), map.weights()).then(|| {
        let (map, node, x) = (map.clone(), x.node(), x.value().clone());
        move |g: Tensor, grads: &mut Grads| {
            {
                let (gh, xh) = (host(&g)?, host(&x)?);
                map.bias.add_grad(|db, beta| column_sums(&gh, out, 0, out, db, beta));
                let mut dw = scratch(d * out);
                sgemm(d, out, t, 1.0, Mat::t(&xh, d), Mat::new(&gh, out), 0.0, &mut dw, out, true);
                map.factors(&dw)?;
                if node.is_some() {
                    let mut dx = scratch(t * d);
                    sgemm(t, d, out, 1.0, Mat::new(&gh, out), Mat::t(&matrix, out), 0.0, &mut dx, d, true);
                    grads.add(node, tensor(dx, (t, d))?)?;
                }
            }
            grads.done(map.weights())
        }
    });
    Ok(pass.result(tensor(y, (t, out))?, back))
}

/// Gated sum g·a + (1 − g)·b with g = σ(p / `temperature`), where p is one learned number (IISAN; Fu et al. 2024).
pub fn gated_sum(pass: &Pass, a: &Act, b: &Act, p: &Weight, temperature: f32) -> Result<Act> {
    if a.value().shape() != b.value().shape() {
        return Err(Error::Numeric(format!("gated_sum: {:?} and {:?}", a.value().shape(), b.value().shape())));
    }
    if !pass.fused(a.value().device()) {
        return composed(pass, &[a, b], &[p], |x, w| {
            let g = candle_nn::ops::sigmoid(&(&w[0] / f64::from(temperature))?)?;
            Ok((&x[1] + (&x[0] - &x[1])?.broadcast_mul(&g)?)?)
        });
    }
    let g = 1.0 / (1.0 + (-to_vec(&p.value())?[0] / temperature).exp());
    let mut y = scratch(a.value().elem_count());
    {
        let (ah, bh) = (host(a.value())?, host(b.value())?);
        y.par_chunks_mut(CHUNK).zip(ah.par_chunks(CHUNK)).zip(bh.par_chunks(CHUNK)).for_each(|((y, a), b)| {
            y.iter_mut().zip(a).zip(b).for_each(|((y, a), b)| *y = g * a + (1.0 - g) * b);
        });
    }
    let back = pass.records_with(a.tracked() || b.tracked(), [p]).then(|| {
        let (an, bn, av, bv, p) = (a.node(), b.node(), a.value().clone(), b.value().clone(), p.clone());
        move |grad: Tensor, grads: &mut Grads| {
            {
                let (ah, bh, gh) = (host(&av)?, host(&bv)?, host(&grad)?);
                let along = dot(&gh, &ah) - dot(&gh, &bh);
                p.add_grad(|dp, beta| {
                    // A new buffer is uninitialised and must not be read.
                    let before = if beta == 0.0 { 0.0 } else { dp[0] };
                    dp[0] = before + along * g * (1.0 - g) / temperature;
                });
            }
            grads.add(an, grad.affine(f64::from(g), 0.0)?)?;
            grads.add(bn, grad.affine(f64::from(1.0 - g), 0.0)?)?;
            grads.done([&p])
        }
    });
    Ok(pass.result(tensor(y, a.value().shape())?, back))
}

/// Columns `at..at + width` of x (t, n).
pub fn slice_columns(pass: &Pass, x: &Act, at: usize, width: usize) -> Result<Act> {
    let (t, n) = x.dims2()?;
    let y = x.value().narrow(1, at, width)?.contiguous()?;
    let back = pass.records(x.tracked()).then(|| {
        let (node, device) = (x.node(), x.value().device().clone());
        move |g: Tensor, grads: &mut Grads| {
            let side = |w: usize| Tensor::zeros((t, w), candle_core::DType::F32, &device);
            let mut parts = vec![g.contiguous()?];
            if at > 0 {
                parts.insert(0, side(at)?);
            }
            if at + width < n {
                parts.push(side(n - at - width)?);
            }
            grads.add(node, Tensor::cat(&parts, 1)?.contiguous()?)
        }
    });
    Ok(pass.result(y, back))
}

/// Appends a row of zeros to x (t, d) → (t + 1, d), so that row t can be gathered for a missing input.
pub fn append_zero_row(pass: &Pass, x: &Act) -> Result<Act> {
    let d = x.dims2()?.1;
    let zero = Tensor::zeros((1, d), candle_core::DType::F32, &x.value().device().clone() as &Device)?;
    super::concat_rows(pass, x, &Act::constant(zero))
}

/// Adds x (t, w) to the columns of y (t, n) from `at` on.
pub fn add_to_columns(pass: &Pass, y: &Act, x: &Act, at: usize) -> Result<Act> {
    let ((t, n), (rows, w)) = (y.dims2()?, x.dims2()?);
    if rows != t || at + w > n {
        return Err(Error::Numeric(format!("add_to_columns: ({rows}, {w}) from column {at} of ({t}, {n})")));
    }
    if !pass.fused(y.value().device()) {
        return composed(pass, &[y, x], &[], |a, _| {
            let mut parts = vec![(a[0].narrow(1, at, w)? + &a[1])?];
            if at > 0 {
                parts.insert(0, a[0].narrow(1, 0, at)?);
            }
            if at + w < n {
                parts.push(a[0].narrow(1, at + w, n - at - w)?);
            }
            Ok(Tensor::cat(&parts, 1)?)
        });
    }
    let mut out = scratch(t * n);
    {
        let (yh, xh) = (host(y.value())?, host(x.value())?);
        out.par_chunks_mut(n * ROWS).zip(yh.par_chunks(n * ROWS)).zip(xh.par_chunks(w * ROWS)).for_each(
            |((out, y), x)| {
                out.copy_from_slice(y);
                out.chunks_exact_mut(n).zip(x.chunks_exact(w)).for_each(|(o, x)| add_assign(&mut o[at..at + w], x));
            },
        );
    }
    let back = pass.records(y.tracked() || x.tracked()).then(|| {
        let (yn, xn) = (y.node(), x.node());
        move |g: Tensor, grads: &mut Grads| {
            if xn.is_some() {
                grads.add(xn, g.narrow(1, at, w)?.contiguous()?)?;
            }
            grads.add(yn, g)
        }
    });
    Ok(pass.result(tensor(out, (t, n))?, back))
}
