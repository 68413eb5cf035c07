//! Losses of each hidden state against its label and k sampled negatives.
//!
//! No (t, k, d) tensor is created: scores are computed directly from the table of items, and the gradient of an item is
//! summed over the predictions in which it occurs, in their order.

use super::composed::composed;
use crate::error::{Error, Result};
use crate::nn::host::{host, tensor};
use crate::nn::kernels::{ROWS, axpy, dot, softmax};
use crate::nn::tape::{Act, Grads, Pass};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Loss function of a label against its sampled negatives: s⁺ is the label's score, s₁ … s_k are the negatives' scores.
/// The loss of a batch is the mean over its t predictions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum SampledLoss {
    /// Sampled softmax: −log softmax of s⁺ among all k + 1 scores.
    Softmax,
    /// Binary cross-entropy (β·softplus(−s⁺) + Σ softplus(sⱼ)) / (k + 1): β = 1 as in SASRec, other values give gBCE.
    Binary {
        /// Exponent β of the label's probability.
        beta: f32,
    },
    /// BPR: mean over j of softplus(sⱼ − s⁺).
    Pairwise,
}

/// Labels, negatives and corrections of a sampled loss. A column is a row number in the batch's table of n distinct
/// items.
#[derive(Debug, Clone)]
pub struct SampledTargets {
    /// Label column of each of the t rows.
    pub target: Vec<u32>,
    /// Columns of the k negatives of each row, row by row (t · k values).
    pub negatives: Arc<Vec<u32>>,
    /// Number of negatives per row.
    pub k: usize,
    /// Added to the score of each column (−log q); n values.
    pub bias: Vec<f32>,
    /// Loss function.
    pub contrast: SampledLoss,
}

impl SampledTargets {
    fn check(&self, t: usize, n: usize) -> Result<()> {
        let sound = t > 0
            && self.k > 0
            && self.target.len() == t
            && self.negatives.len() == t * self.k
            && self.bias.len() == n
            && self.target.iter().chain(self.negatives.iter()).all(|&c| (c as usize) < n);
        if sound {
            Ok(())
        } else {
            Err(Error::Numeric(format!(
                "sampled loss: its parts do not fit {t} rows × {n} items, {} negatives",
                self.k
            )))
        }
    }
    /// Columns of row i: the label, followed by its negatives.
    fn columns(&self, i: usize) -> impl Iterator<Item = usize> {
        let of = &self.negatives[i * self.k..(i + 1) * self.k];
        std::iter::once(self.target[i] as usize).chain(of.iter().map(|&c| c as usize))
    }
}

/// Returns log(1 + exp(x)) and its derivative.
fn softplus(x: f32) -> (f32, f32) {
    let e = (-x.abs()).exp();
    (x.max(0.0) + e.ln_1p(), if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) })
}

impl SampledLoss {
    /// Returns the loss of one row of scores `s` (label first) and overwrites the scores with their gradient.
    fn row(self, s: &mut [f32]) -> f64 {
        let k = s.len() - 1;
        match self {
            Self::Softmax => {
                let label = s[0];
                let lse = softmax(s);
                s[0] -= 1.0;
                f64::from(lse) - f64::from(label)
            }
            Self::Binary { beta } => {
                let share = 1.0 / (k + 1) as f32;
                let (l, d) = softplus(-s[0]);
                let mut loss = f64::from(beta * l);
                s[0] = -beta * d * share;
                for v in &mut s[1..] {
                    let (l, d) = softplus(*v);
                    loss += f64::from(l);
                    *v = d * share;
                }
                loss / (k + 1) as f64
            }
            Self::Pairwise => {
                let (label, mut loss, mut sum) = (s[0], 0f64, 0f32);
                for v in &mut s[1..] {
                    let (l, d) = softplus(*v - label);
                    loss += f64::from(l);
                    *v = d / k as f32;
                    sum += *v;
                }
                s[0] = -sum;
                loss / k as f64
            }
        }
    }
}

/// Mean sampled loss of hidden states h (t, d) over items e (n, d) → scalar.
pub fn sampled_loss(pass: &Pass, h: &Act, e: &Act, spec: &Arc<SampledTargets>) -> Result<Act> {
    let ((t, d), (n, _)) = (h.dims2()?, e.dims2()?);
    spec.check(t, n)?;
    if !pass.fused(h.value().device()) {
        return through_candle(pass, h, e, spec);
    }
    let records = pass.records(h.tracked() || e.tracked());
    let wide = spec.k + 1;
    let mut ds = vec![0f32; t * wide];
    let mut dh = vec![0f32; if records { t * d } else { 0 }];
    let loss: f64;
    {
        let (hh, eh) = (host(h.value())?, host(e.value())?);
        let (hs, es): (&[f32], &[f32]) = (&hh, &eh);
        let losses: Vec<f64> = ds
            .par_chunks_exact_mut(wide)
            .enumerate()
            .with_min_len(ROWS)
            .map(|(i, s)| {
                let h = &hs[i * d..(i + 1) * d];
                for (s, c) in s.iter_mut().zip(spec.columns(i)) {
                    *s = dot(h, &es[c * d..(c + 1) * d]) + spec.bias[c];
                }
                let loss = spec.contrast.row(s);
                s.iter_mut().for_each(|v| *v /= t as f32);
                loss
            })
            .collect();
        loss = losses.iter().sum::<f64>() / t as f64;
        if records {
            dh.par_chunks_exact_mut(d).zip(ds.par_chunks_exact(wide)).enumerate().with_min_len(ROWS).for_each(
                |(i, (dh, ds))| {
                    for (&g, c) in ds.iter().zip(spec.columns(i)) {
                        axpy(dh, g, &es[c * d..(c + 1) * d]);
                    }
                },
            );
        }
    }
    let value = Tensor::new(loss as f32, &Device::Cpu)?;
    let back = records.then(|| {
        let (hn, en, states, spec) = (h.node(), e.node(), h.value().clone(), spec.clone());
        move |g: Tensor, grads: &mut Grads| {
            let g = g.to_scalar::<f32>()?;
            let mut de = vec![0f32; if en.is_some() { n * d } else { 0 }];
            if en.is_some() {
                let hh = host(&states)?;
                let hs: &[f32] = &hh;
                let uses = Uses::new(&spec, t, n);
                de.par_chunks_exact_mut(d).enumerate().with_min_len(ROWS).for_each(|(c, de)| {
                    for &u in uses.of(c) {
                        let row = u as usize / wide;
                        axpy(de, g * ds[u as usize], &hs[row * d..(row + 1) * d]);
                    }
                });
            }
            if g != 1.0 {
                dh.iter_mut().for_each(|v| *v *= g);
            }
            if en.is_some() {
                grads.add(en, tensor(de, (n, d))?)?;
            }
            grads.add(hn, tensor(dh, (t, d))?)
        }
    });
    Ok(pass.result(value, back))
}

/// For each column, the positions (row · (k+1) + slot) at which it occurs, ascending.
struct Uses {
    offsets: Vec<u32>,
    places: Vec<u32>,
}

impl Uses {
    fn new(spec: &SampledTargets, t: usize, n: usize) -> Self {
        let mut offsets = vec![0u32; n + 1];
        (0..t).flat_map(|i| spec.columns(i)).for_each(|c| offsets[c + 1] += 1);
        (0..n).for_each(|c| offsets[c + 1] += offsets[c]);
        let mut next = offsets.clone();
        let mut places = vec![0u32; t * (spec.k + 1)];
        for (place, c) in (0..t).flat_map(|i| spec.columns(i)).enumerate() {
            places[next[c] as usize] = place as u32;
            next[c] += 1;
        }
        Self { offsets, places }
    }
    fn of(&self, column: usize) -> &[u32] {
        &self.places[self.offsets[column] as usize..self.offsets[column + 1] as usize]
    }
}

fn through_candle(pass: &Pass, h: &Act, e: &Act, spec: &SampledTargets) -> Result<Act> {
    let (t, d) = h.dims2()?;
    let (device, wide) = (h.value().device().clone(), spec.k + 1);
    let ids: Vec<u32> = (0..t).flat_map(|i| spec.columns(i)).map(|c| c as u32).collect();
    let bias: Vec<f32> = ids.iter().map(|&c| spec.bias[c as usize]).collect();
    let ids = Tensor::new(ids, &device)?;
    let bias = Tensor::from_vec(bias, (t, wide), &Device::Cpu)?.to_device(&device)?;
    // log(1 + exp(x)) = max(x, 0) + log(1 + exp(−|x|)), written with operations that candle differentiates correctly.
    let softplus = |x: &Tensor| -> Result<Tensor> {
        let positive = x.gt(0f64)?.to_dtype(x.dtype())?;
        let sign = (&positive * 2.0)?.affine(1.0, -1.0)?;
        let size = (x * &sign)?;
        Ok(((x * &positive)? + (size.neg()?.exp()? + 1.0)?.log()?)?)
    };
    composed(pass, &[h, e], &[], |a, _| {
        let items = a[1].index_select(&ids, 0)?.reshape((t, wide, d))?;
        let s = (items.matmul(&a[0].reshape((t, d, 1))?)?.reshape((t, wide))? + &bias)?;
        let (label, others) = (s.narrow(1, 0, 1)?, s.narrow(1, 1, spec.k)?);
        let sum = match spec.contrast {
            SampledLoss::Softmax => candle_nn::ops::log_softmax(&s, 1)?.narrow(1, 0, 1)?.sum_all()?.neg()?,
            SampledLoss::Binary { beta } => {
                let label = (softplus(&label.neg()?)?.sum_all()? * f64::from(beta))?;
                ((label + softplus(&others)?.sum_all()?)? * (1.0 / wide as f64))?
            }
            SampledLoss::Pairwise => (softplus(&others.broadcast_sub(&label)?)?.sum_all()? * (1.0 / spec.k as f64))?,
        };
        Ok((sum * (1.0 / t as f64))?)
    })
}
