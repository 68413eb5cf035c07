//! Batch normalisation over rows (Ioffe & Szegedy 2015), fused with the residual sum and the ReLU that follow it.

use super::composed::composed;
use crate::error::Result;
use crate::nn::host::{host, scratch, tensor, to_vec};
use crate::nn::kernels::{ROWS, add_assign, relu, scale_shift};
use crate::nn::layers::BatchNorm;
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::Tensor;
use rayon::prelude::*;

/// Rows per block of partial sums; fixed, so that sums do not depend on the number of threads.
const BLOCK: usize = 512;

/// Sums over all rows the values that `f` adds for each row: `k` values per channel, for `c` channels.
fn sums(rows: usize, c: usize, k: usize, f: impl Fn(usize, &mut [f32]) + Sync) -> Vec<f64> {
    let parts: Vec<Vec<f32>> = (0..rows.div_ceil(BLOCK))
        .into_par_iter()
        .map(|b| {
            let mut s = vec![0f32; k * c];
            (b * BLOCK..((b + 1) * BLOCK).min(rows)).for_each(|r| f(r, &mut s));
            s
        })
        .collect();
    let mut all = vec![0f64; k * c];
    parts.iter().for_each(|p| all.iter_mut().zip(p).for_each(|(a, &p)| *a += f64::from(p)));
    all
}

/// Computes relu?(γ·(x − μ)/σ + β (+ residual)) for x (rows, c). With `batch`, μ and σ are the statistics of these
/// rows, and the running statistics are updated if the pass records. Otherwise μ and σ are the running statistics.
pub fn batch_norm(
    pass: &Pass,
    x: &Act,
    norm: &BatchNorm,
    batch: bool,
    residual: Option<&Act>,
    with_relu: bool,
) -> Result<Act> {
    let (rows, c) = x.dims2()?;
    let tracked = x.tracked() || residual.is_some_and(Act::tracked);
    let batch = batch && pass.is_train();
    if !pass.fused(x.value().device()) {
        return by_parts(pass, x, norm, batch, residual, with_relu);
    }
    let xh = host(x.value())?;
    let xs: &[f32] = &xh;
    let (mean, var) = if batch {
        let mean: Vec<f32> = sums(rows, c, 1, |r, s| add_assign(s, &xs[r * c..][..c]))
            .iter()
            .map(|s| (s / rows as f64) as f32)
            .collect();
        let var: Vec<f32> = sums(rows, c, 1, |r, s| {
            for ((s, &x), &m) in s.iter_mut().zip(&xs[r * c..]).zip(&mean) {
                *s += (x - m) * (x - m);
            }
        })
        .iter()
        .map(|s| (s / rows as f64) as f32)
        .collect();
        norm.observe(pass, &mean, &var, rows)?;
        (mean, var)
    } else {
        (to_vec(&norm.running_mean.value())?, to_vec(&norm.running_var.value())?)
    };
    let rstd: Vec<f32> = var.iter().map(|v| 1.0 / (v + norm.eps).sqrt()).collect();
    let gamma = to_vec(&norm.weight.value())?;
    let beta = to_vec(&norm.bias.value())?;
    let scale: Vec<f32> = gamma.iter().zip(&rstd).map(|(g, r)| g * r).collect();
    let shift: Vec<f32> = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    let mut y = scratch(rows * c);
    {
        let rh = residual.map(|r| host(r.value())).transpose()?;
        let rs: Option<&[f32]> = rh.as_deref();
        y.par_chunks_mut(c * ROWS).enumerate().for_each(|(b, y)| {
            let at = b * ROWS * c;
            for (y, x) in y.chunks_exact_mut(c).zip(xs[at..].chunks_exact(c)) {
                scale_shift(y, x, &scale, &shift);
            }
            if let Some(r) = rs {
                add_assign(y, &r[at..at + y.len()]);
            }
            if with_relu {
                relu(y);
            }
        });
    }
    drop(xh);
    let y = tensor(y, (rows, c))?;
    let records = pass.records_with(tracked, norm.weights());
    let back = records.then(|| {
        let (x, node, rnode, norm) = (x.value().clone(), x.node(), residual.and_then(Act::node), norm.clone());
        let kept = with_relu.then(|| y.clone());
        move |g: Tensor, grads: &mut Grads| {
            // Backward pass of the ReLU.
            let g = match &kept {
                None => g,
                Some(y) => {
                    let mut d = scratch(rows * c);
                    let (yh, gh) = (host(y)?, host(&g)?);
                    d.par_chunks_mut(c * ROWS).zip(yh.par_chunks(c * ROWS)).zip(gh.par_chunks(c * ROWS)).for_each(
                        |((d, y), g)| {
                            for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
                                *d = if y > 0.0 { g } else { 0.0 };
                            }
                        },
                    );
                    drop((yh, gh));
                    tensor(d, (rows, c))?
                }
            };
            if rnode.is_some() {
                grads.add(rnode, g.clone())?;
            }
            let learns = norm.weight.trains() || norm.bias.trains();
            let mut dx = scratch(if node.is_some() { rows * c } else { 0 });
            {
                let (xh, gh) = (host(&x)?, host(&g)?);
                let (xs, gs): (&[f32], &[f32]) = (&xh, &gh);
                // Σ g and Σ g·(x − μ)·rstd.
                let total = if learns || batch {
                    sums(rows, c, 2, |r, s| {
                        let (db, dw) = s.split_at_mut(c);
                        let (x, g) = (&xs[r * c..][..c], &gs[r * c..][..c]);
                        for i in 0..c {
                            db[i] += g[i];
                            dw[i] += g[i] * (x[i] - mean[i]) * rstd[i];
                        }
                    })
                } else {
                    vec![]
                };
                let put = |from: &[f64], out: &mut [f32], beta: f32| {
                    for (o, &v) in out.iter_mut().zip(from) {
                        *o = v as f32 + if beta == 0.0 { 0.0 } else { *o };
                    }
                };
                if learns {
                    norm.bias.add_grad(|out, beta| put(&total[..c], out, beta));
                    norm.weight.add_grad(|out, beta| put(&total[c..], out, beta));
                }
                if node.is_some() {
                    let m = rows as f64;
                    let mean_of = |part: &[f64]| part.iter().map(|v| (v / m) as f32).collect::<Vec<f32>>();
                    let (mg, mgx) = if batch { (mean_of(&total[..c]), mean_of(&total[c..])) } else { (vec![], vec![]) };
                    dx.par_chunks_mut(c * ROWS).enumerate().for_each(|(b, dx)| {
                        let at = b * ROWS * c;
                        for (r, dx) in dx.chunks_exact_mut(c).enumerate() {
                            let (x, g) = (&xs[at + r * c..][..c], &gs[at + r * c..][..c]);
                            if batch {
                                for i in 0..c {
                                    let xhat = (x[i] - mean[i]) * rstd[i];
                                    dx[i] = scale[i] * (g[i] - mg[i] - xhat * mgx[i]);
                                }
                            } else {
                                for i in 0..c {
                                    dx[i] = scale[i] * g[i];
                                }
                            }
                        }
                    });
                }
            }
            grads.done(norm.weights())?;
            if node.is_some() {
                grads.add(node, tensor(dx, (rows, c))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(y, back))
}

fn by_parts(
    pass: &Pass,
    x: &Act,
    norm: &BatchNorm,
    batch: bool,
    residual: Option<&Act>,
    with_relu: bool,
) -> Result<Act> {
    let (rows, _) = x.dims2()?;
    if batch {
        let mean = x.value().mean(0)?;
        let var = x.value().broadcast_sub(&mean)?.sqr()?.mean(0)?;
        norm.observe(pass, &to_vec(&mean)?, &to_vec(&var)?, rows)?;
    }
    let (mean, var) = (norm.running_mean.value(), norm.running_var.value());
    let acts: Vec<&Act> = [Some(x), residual].into_iter().flatten().collect();
    composed(pass, &acts, &[&norm.weight, &norm.bias], |a, w| {
        let (mean, var) = if batch {
            let mean = a[0].mean_keepdim(0)?;
            let var = a[0].broadcast_sub(&mean)?.sqr()?.mean_keepdim(0)?;
            (mean, var)
        } else {
            (mean.unsqueeze(0)?, var.unsqueeze(0)?)
        };
        let rstd = (var + f64::from(norm.eps))?.sqrt()?.recip()?;
        let mut y = a[0].broadcast_sub(&mean)?.broadcast_mul(&rstd)?.broadcast_mul(&w[0])?.broadcast_add(&w[1])?;
        if let Some(r) = a.get(1) {
            y = (y + r)?;
        }
        Ok(if with_relu { (&y * y.gt(0f64)?.to_dtype(y.dtype())?)? } else { y })
    })
}
