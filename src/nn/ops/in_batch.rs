//! Softmax cross-entropy of hidden states against the distinct items of a batch, in blocks of rows.
//!
//! The logits of a block are computed once, overwritten by their gradient and consumed at once: memory is O(block · n)
//! instead of O(t · n).

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{host, scratch, tensor};
use crate::nn::kernels::{add_assign, softmax};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

const BLOCK: usize = 512;

/// Rows whose logits are in memory at the same time: fewer for a larger catalogue.
fn block(n: usize) -> usize {
    ((1 << 24) / n.max(1)).clamp(32, BLOCK)
}

/// Labels, masks and corrections of the in-batch softmax. A column is a row number in the batch's table of n distinct
/// items.
#[derive(Debug, Clone, Default)]
pub struct InBatchTargets {
    /// Label column of each of the t rows.
    pub target: Vec<u32>,
    /// User (index into `own`) of each of the t rows.
    pub owner: Vec<u32>,
    /// Columns of each user's own items; they are masked, except for the label.
    pub own: Vec<Vec<u32>>,
    /// Added to the score of each column where it is a negative: −log q + log multiplicity; n values.
    pub negative_bias: Vec<f32>,
    /// Added to the score of each column where it is the label: −log q; n values.
    pub label_bias: Vec<f32>,
}

impl InBatchTargets {
    fn check(&self, t: usize, n: usize) -> Result<()> {
        let sound = self.target.len() == t
            && self.owner.len() == t
            && self.negative_bias.len() == n
            && self.label_bias.len() == n
            && self.target.iter().all(|&c| (c as usize) < n)
            && self.owner.iter().all(|&u| (u as usize) < self.own.len())
            && self.own.iter().flatten().all(|&c| (c as usize) < n);
        if sound {
            Ok(())
        } else {
            Err(Error::Numeric(format!("in-batch loss: its parts do not fit {t} rows × {n} items")))
        }
    }
}

/// Mean cross-entropy over the t rows of the logits h (t, d) · e (n, d)ᵀ → scalar.
pub fn in_batch_softmax(pass: &Pass, h: &Act, e: &Act, spec: &Arc<InBatchTargets>) -> Result<Act> {
    let ((t, d), (n, _)) = (h.dims2()?, e.dims2()?);
    spec.check(t, n)?;
    if t == 0 {
        return Err(Error::Numeric("in-batch loss: no position to predict in this batch".into()));
    }
    if !pass.fused(h.value().device()) {
        return through_candle(pass, h, e, spec);
    }
    let records = pass.records(h.tracked() || e.tracked());
    let block_rows = block(n);
    let mut logits = scratch(block_rows.min(t) * n);
    let (mut dh, mut de) = if records { (scratch(t * d), scratch(n * d)) } else { (vec![], vec![]) };
    let mut loss = 0f64;
    {
        let (hh, eh) = (host(h.value())?, host(e.value())?);
        for from in (0..t).step_by(block_rows) {
            let rows = block_rows.min(t - from);
            let block = &mut logits[..rows * n];
            let hs = &hh[from * d..(from + rows) * d];
            sgemm(rows, n, d, 1.0, Mat::new(hs, d), Mat::t(&eh, d), 0.0, block, n, true);
            let losses: Vec<f64> = block
                .par_chunks_exact_mut(n)
                .enumerate()
                .map(|(i, row)| {
                    let label = spec.target[from + i] as usize;
                    let at_label = row[label] + spec.label_bias[label];
                    add_assign(row, &spec.negative_bias);
                    for &c in &spec.own[spec.owner[from + i] as usize] {
                        row[c as usize] = f32::NEG_INFINITY;
                    }
                    row[label] = at_label;
                    let lse = softmax(row);
                    row[label] -= 1.0;
                    f64::from(lse) - f64::from(at_label)
                })
                .collect();
            loss += losses.iter().sum::<f64>();
            if records {
                let k = 1.0 / t as f32;
                let beta = if from == 0 { 0.0 } else { 1.0 };
                sgemm(rows, d, n, k, Mat::new(block, n), Mat::new(&eh, d), 0.0, &mut dh[from * d..], d, true);
                sgemm(n, d, rows, k, Mat::t(block, n), Mat::new(hs, d), beta, &mut de, d, true);
            }
        }
    }
    let value = Tensor::new((loss / t as f64) as f32, &Device::Cpu)?;
    let back = records.then(|| {
        let (hn, en) = (h.node(), e.node());
        move |g: Tensor, grads: &mut Grads| {
            let g = g.to_scalar::<f32>()?;
            if g != 1.0 {
                dh.iter_mut().chain(de.iter_mut()).for_each(|v| *v *= g);
            }
            grads.add(hn, tensor(dh, (t, d))?)?;
            grads.add(en, tensor(de, (n, d))?)
        }
    });
    Ok(pass.result(value, back))
}

fn through_candle(pass: &Pass, h: &Act, e: &Act, spec: &InBatchTargets) -> Result<Act> {
    let (t, n) = (h.dims2()?.0, e.dims2()?.0);
    let device = h.value().device().clone();
    let plain =
        spec.own.iter().all(Vec::is_empty) && spec.negative_bias.iter().chain(&spec.label_bias).all(|&b| b == 0.0);
    let mut bias = Vec::with_capacity(if plain { 0 } else { t * n });
    for (i, (&target, &owner)) in spec.target.iter().zip(&spec.owner).enumerate().filter(|_| !plain) {
        bias.extend_from_slice(&spec.negative_bias);
        let row = &mut bias[i * n..];
        for &c in &spec.own[owner as usize] {
            row[c as usize] = -1e30;
        }
        row[target as usize] = spec.label_bias[target as usize];
    }
    let bias = if plain { None } else { Some(Tensor::from_vec(bias, (t, n), &Device::Cpu)?.to_device(&device)?) };
    let label = Tensor::new(spec.target.as_slice(), &device)?.reshape((t, 1))?;
    composed(pass, &[h, e], &[], |a, _| {
        let mut logits = a[0].matmul(&a[1].t()?)?;
        if let Some(b) = &bias {
            logits = (logits + b)?;
        }
        let logp = candle_nn::ops::log_softmax(&logits, 1)?;
        Ok((logp.gather(&label, 1)?.sum_all()? * (-1.0 / t as f64))?)
    })
}
