//! Table look-ups with row-sparse gradients, and gathering of rows.

use super::composed::composed;
use crate::error::Result;
use crate::nn::Weight;
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{ROWS, add_assign};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::Tensor;
use rayon::prelude::*;
use std::sync::Arc;

/// Embedding look-up `base + Σ table[ids]` → (t, d), summed over the tables. Each table comes with t row numbers; `base`
/// (t, d) is optional.
pub fn embed(pass: &Pass, base: Option<&Act>, tables: &[(&Weight, Arc<Vec<u32>>)]) -> Result<Act> {
    let Some((first, ids)) = tables.first() else {
        return base.cloned().ok_or_else(|| crate::Error::Numeric("embed needs a base or a table".into()));
    };
    let (t, d) = (ids.len(), first.shape().last().copied().unwrap_or(1));
    let device = first.value().device().clone();
    if !pass.fused(&device) {
        let weights: Vec<&Weight> = tables.iter().map(|(w, _)| *w).collect();
        let acts: Vec<&Act> = base.into_iter().collect();
        return composed(pass, &acts, &weights, |a, w| {
            let mut out = a.first().cloned();
            for (w, (_, ids)) in w.iter().zip(tables) {
                let ids = Tensor::new(ids.as_slice(), &device)?;
                let rows = w.reshape(((), d))?.index_select(&ids, 0)?;
                out = Some(match out {
                    None => rows,
                    Some(o) => (o + rows)?,
                });
            }
            out.ok_or_else(|| crate::Error::Numeric("embed needs a base or a table".into()))
        });
    }
    let mut y = scratch(t * d);
    {
        let values: Vec<Tensor> = tables.iter().map(|(w, _)| w.value()).collect();
        let hosts = values.iter().map(host).collect::<Result<Vec<_>>>()?;
        let hosts: Vec<&[f32]> = hosts.iter().map(|h| &**h).collect();
        let bh = base.map(|b| host(b.value())).transpose()?;
        let bs: Option<&[f32]> = bh.as_deref();
        y.par_chunks_mut(d * ROWS).enumerate().for_each(|(block, y)| {
            for (i, y) in y.chunks_exact_mut(d).enumerate() {
                let row = block * ROWS + i;
                match bs {
                    Some(b) => y.copy_from_slice(&b[row * d..(row + 1) * d]),
                    None => y.fill(0.0),
                }
                for (h, (_, ids)) in hosts.iter().zip(tables) {
                    let id = ids[row] as usize;
                    add_assign(y, &h[id * d..(id + 1) * d]);
                }
            }
        });
    }
    let records = pass.records_with(base.is_some_and(Act::tracked), tables.iter().map(|(w, _)| *w));
    let back = records.then(|| {
        let node = base.and_then(Act::node);
        let tables: Vec<(Weight, Arc<Vec<u32>>)> = tables.iter().map(|(w, i)| ((*w).clone(), i.clone())).collect();
        move |g: Tensor, grads: &mut Grads| {
            {
                let gh = host(&g)?;
                tables.par_iter().for_each(|(w, ids)| w.add_grad_rows(ids, d, &gh));
            }
            grads.done(tables.iter().map(|(w, _)| w))?;
            grads.add(node, g)
        }
    });
    Ok(pass.result(tensor(y, (t, d))?, back))
}

/// Row number of a masked position, at which [`gather_or_fill`] uses the fill vector.
pub const MASKED: u32 = u32::MAX;

/// Gathers rows `ids` of x (n, d) → (t, d); the backward pass adds the gradients of repeated rows in order.
pub fn gather(pass: &Pass, x: &Act, ids: Arc<Vec<u32>>) -> Result<Act> {
    gather_or_fill(pass, x, ids, None)
}

/// Gathers rows `ids` of x (n, d) → (t, d), with the vector `fill` (d) where the id is [`MASKED`].
pub fn gather_or_fill(pass: &Pass, x: &Act, ids: Arc<Vec<u32>>, fill: Option<&Weight>) -> Result<Act> {
    let (n, d) = x.dims2()?;
    let limit = if fill.is_some() { n + 1 } else { n };
    let place = |&i: &u32| if i == MASKED { n } else { i as usize };
    if let Some(i) = ids.iter().find(|i| place(i) >= limit) {
        return Err(crate::Error::Numeric(format!("gather: row {i} of {n}")));
    }
    let device = x.value().device().clone();
    if !pass.fused(&device) {
        let at: Vec<u32> = ids.iter().map(|i| place(i) as u32).collect();
        let weights: Vec<&Weight> = fill.into_iter().collect();
        return composed(pass, &[x], &weights, |a, w| {
            let table = match w.first() {
                Some(w) => Tensor::cat(&[&a[0], &w.reshape((1, d))?], 0)?,
                None => a[0].clone(),
            };
            Ok(table.index_select(&Tensor::new(at.as_slice(), &device)?, 0)?)
        });
    }
    let mut y = scratch(ids.len() * d);
    {
        let xh = host(x.value())?;
        let fv = fill.map(|f| f.value());
        let fh = fv.as_ref().map(host).transpose()?;
        let (xs, fs): (&[f32], Option<&[f32]>) = (&xh, fh.as_deref());
        y.par_chunks_mut(d * ROWS).zip(ids.par_chunks(ROWS)).for_each(|(y, ids)| {
            for (y, &i) in y.chunks_exact_mut(d).zip(ids) {
                match fs {
                    Some(f) if i == MASKED => y.copy_from_slice(f),
                    _ => y.copy_from_slice(&xs[i as usize * d..(i as usize + 1) * d]),
                }
            }
        });
    }
    let t = ids.len();
    let back = pass.records_with(x.tracked(), fill).then(|| {
        let (node, fill) = (x.node(), fill.cloned());
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = vec![0f32; n * d];
            let mut hidden = vec![0f32; d];
            {
                let gh = host(&g)?;
                for (row, &i) in gh.chunks_exact(d).zip(ids.iter()) {
                    let to = if i == MASKED { &mut hidden } else { &mut dx[i as usize * d..(i as usize + 1) * d] };
                    add_assign(to, row);
                }
            }
            if let Some(f) = &fill {
                f.add_grad(|out, beta| {
                    if beta == 0.0 {
                        out.fill(0.0);
                    }
                    add_assign(out, &hidden);
                });
            }
            grads.done(&fill)?;
            if node.is_some() {
                grads.add(node, tensor(dx, (n, d))?)?;
            }
            Ok(())
        }
    });
    Ok(pass.result(tensor(y, (t, d))?, back))
}
