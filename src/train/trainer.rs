//! The training loop: epochs, steps, validation, checkpoints, early stop.

use super::checkpoint::{self, Cursor};
use super::events::{Event, Observer};
use super::job::{Outcome, TrainJob};
use super::optimizer::AdamW;
use super::schedule;
use super::step::Stepper;
use crate::batch::Epoch;
use crate::config::EvalConfig;
use crate::error::{Error, Result};
use crate::eval::{EvalTask, encode, evaluate};
use crate::fsio::Staged;
use crate::model::folder;
use crate::objective;
use std::path::PathBuf;
use std::time::Instant;

/// Trains until the last epoch or an early stop. Afterwards `best/` holds the best model and `last/` the last.
pub fn run(job: &TrainJob, observers: &mut [Box<dyn Observer + '_>]) -> Result<Outcome> {
    let c = &job.config.train;
    let objective = objective::build(&job.config.objective, job.split)?;
    let mut t = Trainer::new(job, Stepper { job, objective: objective.as_ref() }, observers)?;
    let (total_steps, epoch_steps, step) = (t.total_steps, t.epoch_steps, t.at.step);
    t.notify(Event::Start { total_steps, epoch_steps, step })?;
    while t.at.epoch < c.epochs && t.at.ended.is_none() {
        t.epoch()?;
        let (train_loss, epoch_seconds) = (t.at.loss_sum / t.batches as f64, t.at.epoch_seconds);
        t.at.epoch += 1;
        (t.at.batch, t.at.loss_sum, t.at.epoch_seconds) = (0, 0.0, 0.0);
        if t.at.epoch.is_multiple_of(c.eval_every) || t.at.epoch == c.epochs {
            t.validate(train_loss, epoch_seconds)?;
        }
        if t.at.epoch == c.epochs && t.at.ended.is_none() {
            t.at.ended = Some(format!("all {} epochs done", c.epochs));
        }
        t.save()?;
    }
    if t.at.best.is_none() {
        // Stopped, and told to end, before its first validation: the last model is the best there is.
        save_best(job)?;
    }
    let (steps, reason) = (t.at.step, t.at.ended.clone().unwrap_or_else(|| "all epochs done".into()));
    t.notify(Event::End { step: steps, reason: reason.clone() })?;
    Ok(Outcome { steps, best: t.at.best, reason })
}

/// A training under way.
struct Trainer<'a, 'o> {
    job: &'a TrainJob<'a>,
    stepper: Stepper<'a>,
    observers: &'a mut [Box<dyn Observer + 'o>],
    optimizer: AdamW,
    at: Cursor,
    /// The folder of checkpoints.
    last: PathBuf,
    /// Batches of an epoch.
    batches: usize,
    /// Optimiser steps of an epoch.
    epoch_steps: u64,
    /// Optimiser steps of all epochs.
    total_steps: u64,
}

impl<'a, 'o> Trainer<'a, 'o> {
    /// Starts at the first epoch, or at the position of the checkpoint in `last/`.
    fn new(job: &'a TrainJob, stepper: Stepper<'a>, observers: &'a mut [Box<dyn Observer + 'o>]) -> Result<Self> {
        let c = &job.config.train;
        let last = job.dir.join("last");
        let mut optimizer = AdamW::default();
        let mut at = Cursor::default();
        if job.resume && last.exists() {
            at = checkpoint::restore(&last, job.model, &mut optimizer)?;
            // A run that had ended goes on if it was given more epochs (and more patience, where that had run out).
            if at.epoch < c.epochs && (c.patience == 0 || at.stale < c.patience) {
                at.ended = None;
            }
        }
        let batches = Epoch::new(job.split, job.config, 0).len();
        if batches == 0 {
            return Err(Error::config("data.path", "no user has two training events; there is nothing to train on"));
        }
        let epoch_steps = batches.div_ceil(c.accumulate) as u64;
        let total_steps = epoch_steps * c.epochs as u64;
        Ok(Self { job, stepper, observers, optimizer, at, last, batches, epoch_steps, total_steps })
    }

    /// The steps of the current epoch from the cursor on.
    fn epoch(&mut self) -> Result<()> {
        let c = &self.job.config.train;
        Epoch::new(self.job.split, self.job.config, self.at.epoch).prefetch(self.at.batch, |next| {
            while self.at.batch < self.batches {
                let started = Instant::now();
                let group = c.accumulate.min(self.batches - self.at.batch);
                let lr_factor = schedule::factor(c, self.at.step, self.total_steps);
                let done = self.stepper.step(&mut self.optimizer, &mut self.at, group, lr_factor, next)?;
                let seconds = started.elapsed().as_secs_f64();
                let at = &mut self.at;
                at.batch += group;
                at.step += 1;
                at.loss_sum += done.loss * group as f64;
                at.epoch_seconds += seconds;
                let (step, epoch) = (at.step, at.epoch);
                self.notify(Event::Step {
                    step,
                    epoch,
                    loss: done.loss,
                    grad_norm: done.grad_norm,
                    lr_factor,
                    items: done.items,
                    seconds,
                })?;
                let due = c.checkpoint_steps > 0 && step.is_multiple_of(c.checkpoint_steps as u64);
                if due && self.at.batch < self.batches {
                    self.save()?;
                }
            }
            Ok(())
        })
    }

    /// Validates after an epoch: keeps the model if it is the best so far, and ends the training when patience runs out.
    fn validate(&mut self, train_loss: f64, epoch_seconds: f64) -> Result<()> {
        let (job, c) = (self.job, &self.job.config.train);
        let started = Instant::now();
        let eval = EvalConfig { lists: 0, ..job.config.eval.clone() };
        let task = EvalTask { split: job.split, cases: &job.split.valid, config: &eval, candidates: &[] };
        let (report, _) = evaluate(job.model, job.features, &task, "validation", &encode::no_progress)?;
        let value = report.get(&c.metric.to_lowercase());
        let best = self.at.best.is_none_or(|b| value > b);
        if best {
            self.at.best = Some(value);
            self.at.stale = 0;
            save_best(job)?;
        } else {
            self.at.stale += 1;
        }
        let (step, epoch) = (self.at.step, self.at.epoch - 1);
        let seconds = started.elapsed().as_secs_f64();
        self.notify(Event::Validation { step, epoch, metrics: report.all, best, train_loss, epoch_seconds, seconds })?;
        if c.patience > 0 && self.at.stale >= c.patience {
            self.at.ended = Some(format!("no better {} in {} validations", c.metric, self.at.stale));
        }
        Ok(())
    }

    /// Writes the checkpoint.
    fn save(&self) -> Result<()> {
        checkpoint::save(&self.last, self.job.model, &self.optimizer, &self.at, self.job.ids)
    }

    fn notify(&mut self, event: Event) -> Result<()> {
        self.observers.iter_mut().try_for_each(|o| o.on(&event))
    }
}

fn save_best(job: &TrainJob) -> Result<()> {
    let staged = Staged::new(&job.dir.join("best"))?;
    folder::save(staged.path(), job.model, job.ids)?;
    staged.commit()
}
