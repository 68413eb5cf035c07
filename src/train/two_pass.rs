//! Batches larger than what the item encoder's backward can hold (GradCache; Gao et al. 2021): exact, for one more
//! forward pass.
//!
//! The items are encoded in parts whose activations are thrown away; the loss is differentiated with respect to the
//! items' vectors; then each part is encoded again, with the same dropout masks, and differentiated.

use super::forward::{check_loss, from_items};
use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::item::{Features, ItemTable};
use crate::model::Recommender;
use crate::nn::grad_buf::GradContent;
use crate::nn::host::to_vec;
use crate::nn::tape::OnGradient;
use crate::nn::{Pass, Tape, TrainContext};
use crate::objective::Objective;
use candle_core::Tensor;
use std::sync::Arc;

/// Model, data and loss of a pass, and the key of its dropout masks.
pub struct Step<'a> {
    /// The model.
    pub model: &'a Recommender,
    /// Content of the catalogue.
    pub features: &'a Features,
    /// The loss.
    pub objective: &'a dyn Objective,
    /// Seed of the run.
    pub seed: u64,
    /// Number of the pass.
    pub pass: u64,
}

/// Adds the gradient of `scale` × loss, encoding at most `most` items at a time. Returns the loss.
pub fn backward(s: &Step, batch: &Batch, most: usize, scale: f64, mut ready: Option<OnGradient>) -> Result<f64> {
    let parts: Vec<Arc<Vec<u32>>> = batch.items.chunks(most.max(1)).map(|c| Arc::new(c.to_vec())).collect();
    let table = |part: usize| ItemTable { ids: &parts[part], features: s.features };
    let d = s.model.item.dim();
    let mut rows = Vec::with_capacity(batch.items.len() * d);
    for part in 0..parts.len() {
        let tape = Tape::new();
        let train = TrainContext::for_chunk(&tape, s.seed, s.pass, part as u64 + 1);
        rows.extend(to_vec(s.model.item.encode(&table(part), &Pass::train_without_tape(&train))?.value())?);
    }
    let tape = Tape::new();
    let items = tape.leaf(Tensor::from_vec(rows, (batch.items.len(), d), &s.model.device)?);
    let train = TrainContext::new(&tape, s.seed, s.pass);
    let loss = from_items(s.model, s.objective, batch, &items, &Pass::train(&train))?;
    let value = check_loss(&loss)?;
    let one = Tensor::full(scale as f32, loss.value().shape(), loss.value().device())?;
    let grad = {
        let grads = tape.backward_with(&loss, one, again(&mut ready))?;
        grads.of(&items).cloned().ok_or_else(|| Error::Numeric("no gradient reaches the items' vectors".into()))?
    };
    let mut from = 0;
    for part in 0..parts.len() {
        let tape = Tape::new();
        let train = TrainContext::for_chunk(&tape, s.seed, s.pass, part as u64 + 1);
        let y = s.model.item.encode(&table(part), &Pass::train(&train))?;
        let n = parts[part].len();
        if !y.tracked() {
            // Nothing of what these items are made of trains.
            from += n;
            continue;
        }
        // A parameter's gradient is complete with the last part.
        let ready = if part + 1 == parts.len() { again(&mut ready) } else { None };
        tape.backward_with(&y, grad.narrow(0, from, n)?, ready)?;
        from += n;
    }
    // What the last part did not use (its items may lack a modality) is complete as well.
    if let Some(ready) = ready {
        for p in s.model.params.trainable() {
            let waits = !matches!(p.grad().content(), GradContent::Nothing);
            if waits {
                ready(p)?;
            }
        }
    }
    Ok(value)
}

fn again<'b>(ready: &'b mut Option<OnGradient>) -> Option<OnGradient<'b>> {
    match ready {
        Some(r) => Some(&mut **r),
        None => None,
    }
}
