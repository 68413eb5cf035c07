//! One optimiser step: the batches of an accumulation group, their gradients, the update.

use super::checkpoint::Cursor;
use super::forward::{check_loss, forward};
use super::job::TrainJob;
use super::optimizer::AdamW;
use super::two_pass::{self, Step};
use crate::batch::Batch;
use crate::config::Modality;
use crate::error::{Error, Result};
use crate::item::ModalitySet;
use crate::model::Recommender;
use crate::nn::tape::OnGradient;
use crate::nn::{Param, Pass, Tape, TrainContext, Weight};
use crate::objective::Objective;
use candle_core::Tensor;

/// Summary of an optimiser step.
pub(super) struct StepSummary {
    /// Mean loss of the step's batches.
    pub loss: f64,
    /// Norm of the gradient before clipping.
    pub grad_norm: f64,
    /// Number of items of the step's batches, distinct per batch.
    pub items: usize,
}

/// State shared by all steps of a training run.
pub(super) struct Stepper<'a> {
    pub job: &'a TrainJob<'a>,
    pub objective: &'a dyn Objective,
}

impl Stepper<'_> {
    /// Takes one optimiser step on `batches` batches from `next`, with learning rates times `lr_factor`. Counts forward
    /// passes in `at`; its other fields are left to the caller.
    pub fn step(
        &self,
        optimizer: &mut AdamW,
        at: &mut Cursor,
        batches: usize,
        lr_factor: f64,
        next: &mut dyn FnMut() -> Batch,
    ) -> Result<StepSummary> {
        let lr = |p: &Param| lr_factor * self.job.config.lr_of(p);
        self.job.model.params.clear_grads();
        if self.job.config.train.clip == 0.0 && batches == 1 {
            self.fused(optimizer, at, &lr, &next())
        } else {
            self.accumulated(optimizer, at, &lr, batches, next)
        }
    }

    /// Step without clipping and accumulation, which need no norm of the whole gradient: each parameter is updated as
    /// soon as its gradient is complete, and the gradient is freed.
    fn fused(
        &self,
        optimizer: &mut AdamW,
        at: &mut Cursor,
        lr: &dyn Fn(&Param) -> f64,
        batch: &Batch,
    ) -> Result<StepSummary> {
        let decay = self.job.config.train.weight_decay;
        let mut seen = ModalitySet::default();
        self.note_modalities(&mut seen, at.step, batch);
        optimizer.begin();
        let mut squares = 0.0;
        let mut update = |p: &Weight| {
            squares += optimizer.apply(p, lr(p), decay, 1.0)?;
            p.release_grad();
            Ok(())
        };
        let loss = self.backward(batch, at, 1.0, Some(&mut update))?;
        check_gradients(self.job.model, seen, at.step)?;
        Ok(StepSummary { loss, grad_norm: squares.sqrt(), items: batch.items.len() })
    }

    /// Accumulates the gradients of all batches, clips their mean and updates the parameters.
    fn accumulated(
        &self,
        optimizer: &mut AdamW,
        at: &mut Cursor,
        lr: &dyn Fn(&Param) -> f64,
        batches: usize,
        next: &mut dyn FnMut() -> Batch,
    ) -> Result<StepSummary> {
        let (c, params) = (&self.job.config.train, &self.job.model.params);
        let scale = 1.0 / batches as f64;
        let mut seen = ModalitySet::default();
        let (mut loss, mut items) = (0.0, 0);
        for _ in 0..batches {
            let batch = next();
            self.note_modalities(&mut seen, at.step, &batch);
            items += batch.items.len();
            loss += self.backward(&batch, at, scale, None)? * scale;
        }
        check_gradients(self.job.model, seen, at.step)?;
        let grad_norm = AdamW::norm(params).map_err(|e| in_step(at.step, e))?;
        let clip = if c.clip > 0.0 { (c.clip / (grad_norm + 1e-6)).min(1.0) } else { 1.0 };
        optimizer.step(params, lr, c.weight_decay, clip)?;
        Ok(StepSummary { loss, grad_norm, items })
    }

    /// Records which modalities occur in the batches of the first step.
    fn note_modalities(&self, seen: &mut ModalitySet, step: u64, batch: &Batch) {
        let features = self.job.features;
        for m in Modality::ALL.into_iter().filter(|_| step == 0) {
            if batch.items.iter().any(|&i| features.has(m, i as usize)) {
                seen.insert(m);
            }
        }
    }

    /// Forward and backward of one batch. The gradient, times `scale`, is accumulated in the parameters, or consumed by
    /// `ready` parameter by parameter. Returns the loss and increments the pass counter.
    fn backward(&self, batch: &Batch, at: &mut Cursor, scale: f64, ready: Option<OnGradient>) -> Result<f64> {
        let loss = self.pass(batch, at.passes, scale, ready).map_err(|e| match e {
            Error::Numeric(_) => in_step(at.step, e),
            e => e,
        })?;
        at.passes += 1;
        Ok(loss)
    }

    fn pass(&self, batch: &Batch, number: u64, scale: f64, ready: Option<OnGradient>) -> Result<f64> {
        let TrainJob { model, features, .. } = *self.job;
        let (seed, most) = (self.job.config.seed, self.job.config.train.encode_items);
        if most > 0 && batch.items.len() > most {
            let step = Step { model, features, objective: self.objective, seed, pass: number };
            return two_pass::backward(&step, batch, most, scale, ready);
        }
        let tape = Tape::new();
        let train = TrainContext::new(&tape, seed, number);
        let loss = forward(model, features, self.objective, batch, &Pass::train(&train))?;
        let value = check_loss(&loss)?;
        let one = Tensor::full(scale as f32, loss.value().shape(), loss.value().device())?;
        tape.backward_with(&loss, one, ready)?;
        Ok(value)
    }
}

fn in_step(step: u64, e: Error) -> Error {
    Error::Numeric(format!("step {}: {e}", step + 1))
}

/// Checks after the first backward pass that every trainable parameter has a gradient; the error names those without.
/// Parameters of a modality that occurs in no batch of the step are exempt.
fn check_gradients(model: &Recommender, seen: ModalitySet, step: u64) -> Result<()> {
    let mut missing = if step == 0 { model.params.without_grad() } else { vec![] };
    let idle =
        |name: &str| Modality::ALL.into_iter().any(|m| !seen.contains(m) && name.starts_with(&m.parameter_prefix()));
    missing.retain(|name| !idle(name));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Numeric(format!("no gradient reaches these trainable parameters: {}; freeze them", missing.join(", "))))
}
