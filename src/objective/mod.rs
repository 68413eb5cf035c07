//! Training objectives: states, item vectors and a batch → a scalar loss.

use crate::batch::Batch;
use crate::config::{Multiplicity, ObjectiveConfig, ObjectiveKind};
use crate::data::Split;
use crate::error::Result;
use crate::nn::{Act, Pass, ops};
use std::sync::Arc;

/// A loss over a batch.
pub trait Objective {
    /// users (t, d), items (n, d) → scalar.
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act>;
}

/// In-batch debiased softmax (MoRec; REFERENCE §4.1).
pub struct InBatchSoftmax {
    log_share: Option<Vec<f32>>,
    multiplicity: Multiplicity,
}

impl Objective for InBatchSoftmax {
    fn loss(&self, users: &Act, items: &Act, batch: &Batch, pass: &Pass) -> Result<Act> {
        let spec = batch.in_batch(self.log_share.as_deref(), self.multiplicity);
        ops::in_batch(pass, users, items, &Arc::new(spec))
    }
}

/// The configured objective, with popularity from the split's training part.
pub fn build(config: &ObjectiveConfig, split: &Split) -> Box<dyn Objective> {
    match config.kind {
        ObjectiveKind::InBatch => Box::new(InBatchSoftmax {
            log_share: config.debias.then(|| split.log_share()),
            multiplicity: config.multiplicity,
        }),
    }
}
