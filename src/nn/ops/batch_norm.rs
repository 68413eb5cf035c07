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
    let (mean, var) = if batch {
        let (mean, var) = statistics(&*host(x.value())?, rows, c);
        norm.observe(pass, &mean, &var, rows)?;
        (mean, var)
    } else {
        (to_vec(&norm.running_mean.value())?, to_vec(&norm.running_var.value())?)
    };
    let map = ChannelMap::new(norm, mean, &var, batch)?;
    let y = map.forward(x.value(), residual.map(Act::value), with_relu)?;
    let back = pass.records_with(tracked, norm.weights()).then(|| {
        let (x, node, rnode, norm) = (x.value().clone(), x.node(), residual.and_then(Act::node), norm.clone());
        let kept = with_relu.then(|| y.clone());
        move |g: Tensor, grads: &mut Grads| {
            let g = match &kept {
                None => g,
                Some(y) => relu_backward(y, &g)?,
            };
            if rnode.is_some() {
                grads.add(rnode, g.clone())?;
            }
            let dx = map.backward(&x, &g, &norm, node.is_some())?;
            grads.done(norm.weights())?;
            match dx {
                Some(dx) => grads.add(node, dx),
                None => Ok(()),
            }
        }
    });
    Ok(pass.result(y, back))
}

/// Mean and (biased) variance of each of the `c` channels over the rows.
fn statistics(xs: &[f32], rows: usize, c: usize) -> (Vec<f32>, Vec<f32>) {
    let over_rows = |sums: Vec<f64>| sums.iter().map(|s| (s / rows as f64) as f32).collect::<Vec<f32>>();
    let mean = over_rows(sums(rows, c, 1, |r, s| add_assign(s, &xs[r * c..][..c])));
    let var = over_rows(sums(rows, c, 1, |r, s| {
        for ((s, &x), &m) in s.iter_mut().zip(&xs[r * c..]).zip(&mean) {
            *s += (x - m) * (x - m);
        }
    }));
    (mean, var)
}

/// Backward pass of a ReLU: `g` where the output `y` is positive, otherwise 0.
fn relu_backward(y: &Tensor, g: &Tensor) -> Result<Tensor> {
    let (rows, c) = y.dims2()?;
    let mut d = scratch(rows * c);
    {
        let (yh, gh) = (host(y)?, host(g)?);
        let blocks = yh.par_chunks(c * ROWS).zip(gh.par_chunks(c * ROWS));
        d.par_chunks_mut(c * ROWS).zip(blocks).for_each(|(d, (y, g))| {
            for ((d, &y), &g) in d.iter_mut().zip(y).zip(g) {
                *d = if y > 0.0 { g } else { 0.0 };
            }
        });
    }
    tensor(d, (rows, c))
}

/// The normalisation as one scale and one shift per channel: γ·(x − μ)/σ + β = scale·x + shift.
struct ChannelMap {
    mean: Vec<f32>,
    /// 1/σ of each channel.
    rstd: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
    /// Whether μ and σ are the batch's statistics, so that gradients flow through them.
    batch: bool,
}

impl ChannelMap {
    fn new(norm: &BatchNorm, mean: Vec<f32>, var: &[f32], batch: bool) -> Result<Self> {
        let (gamma, beta) = (to_vec(&norm.weight.value())?, to_vec(&norm.bias.value())?);
        let rstd: Vec<f32> = var.iter().map(|v| 1.0 / (v + norm.eps).sqrt()).collect();
        let scale: Vec<f32> = gamma.iter().zip(&rstd).map(|(g, r)| g * r).collect();
        let shift = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok(Self { mean, rstd, scale, shift, batch })
    }

    /// Computes relu?(scale·x + shift (+ residual)).
    fn forward(&self, x: &Tensor, residual: Option<&Tensor>, with_relu: bool) -> Result<Tensor> {
        let (rows, c) = x.dims2()?;
        let mut y = scratch(rows * c);
        {
            let (xh, rh) = (host(x)?, residual.map(host).transpose()?);
            let (xs, rs): (&[f32], Option<&[f32]>) = (&xh, rh.as_deref());
            y.par_chunks_mut(c * ROWS).enumerate().for_each(|(b, y)| {
                let at = b * ROWS * c;
                for (y, x) in y.chunks_exact_mut(c).zip(xs[at..].chunks_exact(c)) {
                    scale_shift(y, x, &self.scale, &self.shift);
                }
                if let Some(r) = rs {
                    add_assign(y, &r[at..at + y.len()]);
                }
                if with_relu {
                    relu(y);
                }
            });
        }
        tensor(y, (rows, c))
    }

    /// Adds the gradients of γ and β, given the gradient `g` of the normalised rows; returns the gradient of `x` if
    /// `wants_dx`.
    fn backward(&self, x: &Tensor, g: &Tensor, norm: &BatchNorm, wants_dx: bool) -> Result<Option<Tensor>> {
        let (rows, c) = x.dims2()?;
        let (xh, gh) = (host(x)?, host(g)?);
        let (xs, gs): (&[f32], &[f32]) = (&xh, &gh);
        let learns = norm.weight.trains() || norm.bias.trains();
        // Sums of g and of g·(x − μ)/σ.
        let total = if learns || self.batch { self.gradient_sums(xs, gs) } else { vec![] };
        let put = |from: &[f64], out: &mut [f32], beta: f32| {
            for (o, &v) in out.iter_mut().zip(from) {
                *o = v as f32 + if beta == 0.0 { 0.0 } else { *o };
            }
        };
        if learns {
            norm.bias.add_grad(|out, beta| put(&total[..c], out, beta));
            norm.weight.add_grad(|out, beta| put(&total[c..], out, beta));
        }
        if !wants_dx {
            return Ok(None);
        }
        let mean_of = |part: &[f64]| part.iter().map(|v| (v / rows as f64) as f32).collect::<Vec<f32>>();
        let (mg, mgx) = if self.batch { (mean_of(&total[..c]), mean_of(&total[c..])) } else { (vec![], vec![]) };
        let (mean, rstd, scale): (&[f32], &[f32], &[f32]) = (&self.mean, &self.rstd, &self.scale);
        let mut dx = scratch(rows * c);
        dx.par_chunks_mut(c * ROWS).enumerate().for_each(|(b, dx)| {
            let at = b * ROWS * c;
            for (r, dx) in dx.chunks_exact_mut(c).enumerate() {
                let (x, g) = (&xs[at + r * c..][..c], &gs[at + r * c..][..c]);
                if self.batch {
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
        tensor(dx, (rows, c)).map(Some)
    }

    /// Sums over the rows for each channel: first Σ g of all channels, then Σ g·(x − μ)/σ of all channels.
    fn gradient_sums(&self, xs: &[f32], gs: &[f32]) -> Vec<f64> {
        let c = self.mean.len();
        let (mean, rstd): (&[f32], &[f32]) = (&self.mean, &self.rstd);
        sums(xs.len() / c, c, 2, |r, s| {
            let (db, dw) = s.split_at_mut(c);
            let (x, g) = (&xs[r * c..][..c], &gs[r * c..][..c]);
            for i in 0..c {
                db[i] += g[i];
                dw[i] += g[i] * (x[i] - mean[i]) * rstd[i];
            }
        })
    }
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
