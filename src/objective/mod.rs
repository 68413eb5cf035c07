//! Training objectives: hidden states, item vectors and a batch → a scalar loss.

use crate::batch::Batch;
use crate::config::{Multiplicity, ObjectiveConfig, ObjectiveKind, Sampler, Similarity};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::nn::ops::{InBatchTargets, SampledLoss, SampledTargets};
use crate::nn::{Act, Pass, ops};
use std::sync::Arc;

/// A loss function over a batch.
pub trait Objective {
    /// Loss of `users` (p, d), the hidden state of each prediction, and `items` (n, d), the item vectors → scalar.
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act>;
}

/// In-batch softmax with popularity debiasing (MoRec; REFERENCE §4.1).
pub struct InBatchSoftmax {
    log_share: Option<Vec<f32>>,
    multiplicity: Multiplicity,
}

impl Objective for InBatchSoftmax {
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act> {
        let spec = batch.in_batch_targets(self.log_share.as_deref(), self.multiplicity);
        ops::in_batch_softmax(pass, users, items, &Arc::new(spec))
    }
}

/// Softmax over the whole catalogue, in blocks of rows, without masking. The batch's table must be the whole catalogue.
pub struct FullSoftmax;

impl Objective for FullSoftmax {
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act> {
        let n = batch.items.len();
        let spec = InBatchTargets {
            target: batch.targets.clone(),
            owner: vec![0; batch.targets.len()],
            own: vec![vec![]],
            negative_bias: vec![0.0; n],
            label_bias: vec![0.0; n],
        };
        ops::in_batch_softmax(pass, users, items, &Arc::new(spec))
    }
}

/// Loss of a label against k sampled negatives.
pub struct SampledObjective {
    contrast: SampledLoss,
    k: usize,
    /// Log of the probability with which each candidate is sampled, if scores are corrected by it.
    log_q: Option<Vec<f32>>,
}

impl Objective for SampledObjective {
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act> {
        let bias = |&c: &u32| self.log_q.as_ref().map_or(0.0, |q| -q[c as usize]);
        let spec = SampledTargets {
            target: batch.targets.clone(),
            negatives: batch.negatives.clone(),
            k: self.k,
            bias: batch.items.iter().map(bias).collect(),
            contrast: self.contrast,
        };
        ops::sampled_loss(pass, users, items, &Arc::new(spec))
    }
}

/// Another objective with cosine similarity or with scores divided by a temperature.
struct Scaled {
    inner: Box<dyn Objective>,
    similarity: Similarity,
    factor: f32,
}

impl Objective for Scaled {
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act> {
        match self.similarity {
            Similarity::Dot => self.inner.loss(&ops::scale(pass, users, self.factor)?, items, batch, pass),
            Similarity::Cosine => {
                let (u, i) = (ops::normalize_rows(pass, users, self.factor)?, ops::normalize_rows(pass, items, 1.0)?);
                self.inner.loss(&u, &i, batch, pass)
            }
        }
    }
}

/// Exponent β of the label's probability in gBCE, for k sampled negatives out of `items` candidates and calibration t
/// (Petrov & Macdonald 2023, eq. 16): β = α(t(1 − 1/α) + 1/α) with α = k/(items − 1).
pub fn gbce_beta(k: usize, items: usize, t: f64) -> f64 {
    let alpha = k as f64 / (items.max(2) - 1) as f64;
    alpha * (t * (1.0 - 1.0 / alpha) + 1.0 / alpha)
}

/// Builds the configured objective, with popularity from the split's training part. An error if the
/// catalogue is too small to sample the negatives from.
pub fn build(config: &ObjectiveConfig, split: &Split) -> Result<Box<dyn Objective>> {
    let items = split.items.len();
    config.check_catalogue(items)?;
    if config.draws() {
        has_negatives(split)?;
    }
    let k = config.negatives;
    let drawn = |contrast, log_q| Box::new(SampledObjective { contrast, k, log_q }) as Box<dyn Objective>;
    let inner: Box<dyn Objective> = match config.kind {
        ObjectiveKind::InBatch => Box::new(InBatchSoftmax {
            log_share: config.debias.then(|| split.log_share()),
            multiplicity: config.multiplicity,
        }),
        ObjectiveKind::Full => Box::new(FullSoftmax),
        ObjectiveKind::Sampled => {
            // Under uniform sampling the correction is the same for all scores and changes nothing.
            let corrected = config.debias && config.sampler != Sampler::Uniform;
            drawn(SampledLoss::Softmax, corrected.then(|| split.log_share()))
        }
        ObjectiveKind::Bce => drawn(SampledLoss::Binary { beta: 1.0 }, None),
        ObjectiveKind::Gbce => {
            let beta = gbce_beta(k, items, config.calibration) as f32;
            drawn(SampledLoss::Binary { beta }, None)
        }
        ObjectiveKind::Bpr => drawn(SampledLoss::Pairwise, None),
    };
    let factor = (1.0 / config.temperature()) as f32;
    Ok(match (config.similarity, factor) {
        (Similarity::Dot, 1.0) => inner,
        (similarity, factor) => Box::new(Scaled { inner, similarity, factor }),
    })
}

/// Returns an error if a user has interacted with every candidate, because no negative could be sampled.
fn has_negatives(split: &Split) -> Result<()> {
    let all = split.items.len();
    let full = (0..split.users.len()).find(|&u| {
        let row = split.train_row(u);
        row.len() >= all && row.iter().collect::<std::collections::HashSet<_>>().len() == all
    });
    match full {
        None => Ok(()),
        Some(u) => {
            let m = format!("user {} of the split has all {all} items: nothing is left to be drawn for them", u + 1);
            Err(Error::config("objective.kind", m + "; use `full` or `in-batch`"))
        }
    }
}
