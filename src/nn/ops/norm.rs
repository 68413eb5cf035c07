//! LayerNorm(residual + dropout(x)), the end of every transformer sub-layer, in one pass over memory.

use super::composed::composed;
use super::dropout::Mask;
use crate::error::Result;
use crate::nn::LayerNorm;
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{ROWS, add_assign, norm_row, norm_row_back};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::Tensor;
use rayon::prelude::*;

/// Computes LN(residual + dropout(x, p)) for each row of x (t, d); without a residual, LN(dropout(x, p)).
pub fn add_norm(pass: &Pass, x: &Act, residual: Option<&Act>, norm: &LayerNorm, p: f32) -> Result<Act> {
    let mask = Mask::of(pass, p);
    if !pass.fused(x.value().device()) {
        let m = mask.map(|m| m.tensor(x.value().shape(), x.value().device())).transpose()?;
        let acts: Vec<&Act> = [Some(x), residual].into_iter().flatten().collect();
        return composed(pass, &acts, &[&norm.weight, &norm.bias], |a, w| {
            let mut s = a[0].clone();
            if let Some(m) = &m {
                s = (s * m)?;
            }
            if let Some(r) = a.get(1) {
                s = (s + r)?;
            }
            Ok(candle_nn::ops::layer_norm_slow(&s, &w[0], &w[1], norm.eps)?)
        });
    }
    let (t, d) = x.dims2()?;
    let records = pass.records_with(x.tracked() || residual.is_some_and(Act::tracked), norm.weights());
    let (mut y, mut xhat, mut rstd) = (scratch(t * d), scratch(t * d), scratch(t));
    {
        let xh = host(x.value())?;
        let rh = residual.map(|r| host(r.value())).transpose()?;
        let (w, b) = (norm.weight.value(), norm.bias.value());
        let (w, b) = (host(&w)?, host(&b)?);
        let (xs, rs, w, b): (&[f32], Option<&[f32]>, &[f32], &[f32]) = (&xh, rh.as_deref(), &w, &b);
        y.par_chunks_mut(d * ROWS)
            .zip(xhat.par_chunks_mut(d * ROWS))
            .zip(rstd.par_chunks_mut(ROWS))
            .enumerate()
            .for_each(|(block, ((y, xhat), rstd))| {
                let at = block * ROWS * d;
                xhat.copy_from_slice(&xs[at..at + xhat.len()]);
                if let Some(m) = mask {
                    m.apply(xhat, at);
                }
                if let Some(r) = rs {
                    add_assign(xhat, &r[at..at + xhat.len()]);
                }
                for ((y, xhat), r) in y.chunks_exact_mut(d).zip(xhat.chunks_exact_mut(d)).zip(rstd) {
                    *r = norm_row(xhat, w, b, norm.eps, y);
                }
            });
    }
    let back = records.then(|| {
        let (node, rnode, norm) = (x.node(), residual.and_then(Act::node), norm.clone());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = scratch(t * d);
            let parts: Vec<(Vec<f32>, Vec<f32>)> = {
                let (gh, w) = (host(&g)?, norm.weight.value());
                let w = host(&w)?;
                let (gs, w): (&[f32], &[f32]) = (&gh, &w);
                dx.par_chunks_mut(d * ROWS)
                    .enumerate()
                    .map(|(block, dx)| {
                        let (mut dw, mut db, mut tmp) = (vec![0f32; d], vec![0f32; d], vec![0f32; d]);
                        for (i, dx) in dx.chunks_exact_mut(d).enumerate() {
                            let row = block * ROWS + i;
                            let (g, xh) = (&gs[row * d..(row + 1) * d], &xhat[row * d..(row + 1) * d]);
                            norm_row_back(g, xh, w, rstd[row], &mut dw, &mut db, &mut tmp, dx);
                        }
                        (dw, db)
                    })
                    .collect()
            };
            let total = |out: &mut [f32], beta: f32, pick: fn(&(Vec<f32>, Vec<f32>)) -> &Vec<f32>| {
                if beta == 0.0 {
                    out.fill(0.0);
                }
                parts.iter().for_each(|p| add_assign(out, pick(p)));
            };
            norm.weight.add_grad(|out, beta| total(out, beta, |p| &p.0));
            norm.bias.add_grad(|out, beta| total(out, beta, |p| &p.1));
            grads.done(norm.weights())?;
            let shared = tensor(dx, (t, d))?;
            if rnode.is_some() {
                grads.add(rnode, shared.clone())?;
            }
            if node.is_some() {
                grads.add(
                    node,
                    match mask {
                        None => shared,
                        Some(m) => {
                            let mut masked = host(&shared)?.to_vec();
                            masked.par_chunks_mut(d * ROWS).enumerate().for_each(|(i, c)| m.apply(c, i * ROWS * d));
                            tensor(masked, (t, d))?
                        }
                    },
                )?;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(y, (t, d))?, back))
}
