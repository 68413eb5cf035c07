//! Operations of vision transformers: interpolated position tables, layer scale, SwiGLU.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::Weight;
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{Activation, CHUNK, ROWS, activate, activate_back, add_assign};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Multiplies a table (…, p, d) from the left by a fixed matrix (q, p) → (q, d): interpolates position embeddings to
/// another grid.
pub fn interpolate_rows(pass: &Pass, table: &Weight, matrix: &Arc<Vec<f32>>) -> Result<Act> {
    let &[.., p, d] = table.shape() else {
        return Err(Error::Numeric(format!("a table of shape {:?}", table.shape())));
    };
    let q = matrix.len() / p;
    if !pass.fused(table.value().device()) {
        let m = Tensor::from_slice(matrix, (q, p), &Device::Cpu)?.to_device(table.value().device())?;
        return composed(pass, &[], &[table], |_, w| Ok(m.matmul(&w[0].reshape((p, d))?)?));
    }
    let mut y = scratch(q * d);
    {
        let w = table.value();
        let w = host(&w)?;
        sgemm(q, d, p, 1.0, Mat::new(matrix, p), Mat::new(&w, d), 0.0, &mut y, d, true);
    }
    let back = pass.records_with(false, [table]).then(|| {
        let (table, matrix) = (table.clone(), matrix.clone());
        move |g: Tensor, grads: &mut Grads| {
            {
                let gh = host(&g)?;
                table.add_grad(|dw, beta| {
                    sgemm(p, d, q, 1.0, Mat::t(&matrix, p), Mat::new(&gh, d), beta, dw, d, true);
                });
            }
            grads.done([&table])
        }
    });
    Ok(pass.result(tensor(y, (q, d))?, back))
}

/// Layer scale of DINOv2: x + y ⊙ scale, for x, y (t, d) and scale (d).
pub fn add_scaled(pass: &Pass, x: &Act, y: &Act, scale: &Weight) -> Result<Act> {
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x, y], &[scale], |a, w| Ok((&a[0] + a[1].broadcast_mul(&w[0])?)?));
    }
    let (t, d) = x.dims2()?;
    let mut out = scratch(t * d);
    {
        let (xh, yh, s) = (host(x.value())?, host(y.value())?, scale.value());
        let s = host(&s)?;
        let s: &[f32] = &s;
        out.par_chunks_mut(d * ROWS).zip(xh.par_chunks(d * ROWS)).zip(yh.par_chunks(d * ROWS)).for_each(
            |((out, x), y)| {
                for ((out, x), y) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(y.chunks_exact(d)) {
                    for i in 0..d {
                        out[i] = x[i] + y[i] * s[i];
                    }
                }
            },
        );
    }
    let back = pass.records_with(x.tracked() || y.tracked(), [scale]).then(|| {
        let (xn, yn, yv, scale) = (x.node(), y.node(), y.value().clone(), scale.clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dy = scratch(t * d);
            let parts: Vec<Vec<f32>> = {
                let (gh, yh, s) = (host(&g)?, host(&yv)?, scale.value());
                let s = host(&s)?;
                let s: &[f32] = &s;
                dy.par_chunks_mut(d * ROWS)
                    .zip(gh.par_chunks(d * ROWS))
                    .zip(yh.par_chunks(d * ROWS))
                    .map(|((dy, g), y)| {
                        let mut ds = vec![0f32; d];
                        for ((dy, g), y) in dy.chunks_exact_mut(d).zip(g.chunks_exact(d)).zip(y.chunks_exact(d)) {
                            for i in 0..d {
                                dy[i] = g[i] * s[i];
                                ds[i] += g[i] * y[i];
                            }
                        }
                        ds
                    })
                    .collect()
            };
            scale.add_grad(|out, beta| {
                if beta == 0.0 {
                    out.fill(0.0);
                }
                parts.iter().for_each(|p| add_assign(out, p));
            });
            grads.done([&scale])?;
            if yn.is_some() {
                grads.add(yn, tensor(dy, (t, d))?)?;
            }
            grads.add(xn, g)
        }
    });
    Ok(pass.result(tensor(out, (t, d))?, back))
}

/// SwiGLU (Shazeer 2020): silu(a) ⊙ b for x (t, 2d), the columns a | b → (t, d).
pub fn swiglu(pass: &Pass, x: &Act) -> Result<Act> {
    let (t, wide) = x.dims2()?;
    let d = wide / 2;
    if !pass.fused(x.value().device()) {
        return composed(pass, &[x], &[], |a, _| {
            let (p, q) = (a[0].narrow(1, 0, d)?.contiguous()?, a[0].narrow(1, d, d)?.contiguous()?);
            Ok((p.silu()? * q)?)
        });
    }
    let mut y = scratch(t * d);
    {
        let xh = host(x.value())?;
        y.par_chunks_mut(d).zip(xh.par_chunks(wide)).with_min_len(CHUNK / wide.max(1) + 1).for_each(|(y, x)| {
            activate(Activation::Silu, &x[..d], y);
            y.iter_mut().zip(&x[d..]).for_each(|(y, b)| *y *= b);
        });
    }
    let back = pass.records(x.tracked()).then(|| {
        let (node, x) = (x.node(), x.value().clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = scratch(t * wide);
            {
                let (xh, gh) = (host(&x)?, host(&g)?);
                dx.par_chunks_mut(wide).zip(xh.par_chunks(wide)).zip(gh.par_chunks(d)).for_each(|((dx, x), g)| {
                    let (da, db) = dx.split_at_mut(d);
                    let (a, b) = x.split_at(d);
                    activate(Activation::Silu, a, db);
                    for ((da, g), b) in da.iter_mut().zip(g).zip(b) {
                        *da = g * b;
                    }
                    let through = da.to_vec();
                    activate_back(Activation::Silu, a, &through, da);
                    db.iter_mut().zip(g).for_each(|(d, g)| *d *= g);
                });
            }
            grads.add(node, tensor(dx, (t, wide))?)
        }
    });
    Ok(pass.result(tensor(y, (t, d))?, back))
}
