//! The loop, on one screen: epochs, steps, validation, checkpoints, early stop.

use super::checkpoint::{self, Cursor};
use super::events::{Event, Observer};
use super::optimizer::AdamW;
use super::schedule;
use super::two_pass::{self, Step};
use crate::batch::{Batch, Epoch};
use crate::config::{Config, EvalConfig, Modality};
use crate::data::Split;
use crate::error::{Error, Result};
use crate::eval::{EvalTask, encode, evaluate};
use crate::fsio::Staged;
use crate::item::{Features, ItemTable, ModalitySet};
use crate::model::{Recommender, TableIds, folder};
use crate::nn::tape::OnGradient;
use crate::nn::{Act, Param, Pass, Tape, TrainContext, Weight, ops};
use crate::objective::{self, Objective};
use candle_core::Tensor;
use std::path::Path;
use std::time::Instant;

/// What to train, on what, where to keep it.
pub struct TrainJob<'a> {
    /// Settings.
    pub config: &'a Config,
    /// Divided data.
    pub split: &'a Split,
    /// Content of its candidates.
    pub features: &'a Features,
    /// Raw ids of its candidates and users.
    pub ids: TableIds<'a>,
    /// The model; changed in place.
    pub model: &'a Recommender,
    /// The run's folder.
    pub dir: &'a Path,
    /// Go on from `last/` if it is there.
    pub resume: bool,
}

/// How training went.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Steps taken.
    pub steps: u64,
    /// Best validation metric.
    pub best: Option<f64>,
    /// Why it ended.
    pub reason: String,
}

/// Trains until the last epoch or an early stop. Afterwards `best/` holds the best model and `last/` the last.
pub fn run(job: &TrainJob, observers: &mut [Box<dyn Observer + '_>]) -> Result<Outcome> {
    let c = &job.config.train;
    let objective = objective::build(&job.config.objective, job.split)?;
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
    let save = |at: &Cursor, o: &AdamW| checkpoint::save(&last, job.model, o, at, job.ids);
    let order = |e: usize| Epoch::new(job.split, job.config, e);
    let batches = order(0).len();
    if batches == 0 {
        return Err(Error::config("data.path", "no user has two training events; there is nothing to train on"));
    }
    let epoch_steps = batches.div_ceil(c.accumulate) as u64;
    let total_steps = epoch_steps * c.epochs as u64;
    tell(observers, Event::Start { total_steps, epoch_steps, step: at.step })?;
    while at.epoch < c.epochs && at.ended.is_none() {
        order(at.epoch).prefetch(at.batch, |next| -> Result<()> {
            while at.batch < batches {
                let started = Instant::now();
                let group = at.batch..(at.batch + c.accumulate).min(batches);
                let scale = 1.0 / group.len() as f64;
                let (mut loss, mut items) = (0.0, 0);
                let mut seen = ModalitySet::default();
                let mut look = |batch: &Batch| {
                    if at.step == 0 {
                        for m in Modality::ALL {
                            if batch.items.iter().any(|&i| job.features.has(m, i as usize)) {
                                seen.insert(m);
                            }
                        }
                    }
                };
                let factor = schedule::factor(c, at.step, total_steps);
                let lr = |p: &Param| factor * job.config.lr_of(p);
                job.model.params.clear_grads();
                let norm = if c.clip == 0.0 && group.len() == 1 {
                    // Nothing has to be known of the whole gradient: each parameter steps as soon as its own is complete,
                    // and gives the memory back.
                    let batch = next();
                    look(&batch);
                    items += batch.items.len();
                    optimizer.begin();
                    let mut squares = 0.0;
                    let mut step = |p: &Weight| {
                        squares += optimizer.apply(p, lr(p), c.weight_decay, 1.0)?;
                        p.release_grad();
                        Ok(())
                    };
                    loss += backward(job, objective.as_ref(), &batch, at.passes, 1.0, at.step, Some(&mut step))?;
                    at.passes += 1;
                    guard(job.model, seen, at.step)?;
                    squares.sqrt()
                } else {
                    for _ in group.clone() {
                        let batch = next();
                        look(&batch);
                        items += batch.items.len();
                        loss += backward(job, objective.as_ref(), &batch, at.passes, scale, at.step, None)? * scale;
                        at.passes += 1;
                    }
                    guard(job.model, seen, at.step)?;
                    let norm = AdamW::norm(&job.model.params).map_err(|e| in_step(at.step, e))?;
                    let clip = if c.clip > 0.0 { (c.clip / (norm + 1e-6)).min(1.0) } else { 1.0 };
                    optimizer.step(&job.model.params, lr, c.weight_decay, clip)?;
                    norm
                };
                at.batch = group.end;
                at.step += 1;
                at.loss_sum += loss * group.len() as f64;
                let seconds = started.elapsed().as_secs_f64();
                at.epoch_seconds += seconds;
                tell(
                    observers,
                    Event::Step {
                        step: at.step,
                        epoch: at.epoch,
                        loss,
                        grad_norm: norm,
                        lr_factor: factor,
                        items,
                        seconds,
                    },
                )?;
                if c.checkpoint_steps > 0 && at.step.is_multiple_of(c.checkpoint_steps as u64) && at.batch < batches {
                    save(&at, &optimizer)?;
                }
            }
            Ok(())
        })?;
        let (train_loss, epoch_seconds, epoch) = (at.loss_sum / batches as f64, at.epoch_seconds, at.epoch);
        at = Cursor { epoch: at.epoch + 1, batch: 0, loss_sum: 0.0, epoch_seconds: 0.0, ..at };
        if at.epoch.is_multiple_of(c.eval_every) || at.epoch == c.epochs {
            let started = Instant::now();
            let eval = EvalConfig { lists: 0, ..job.config.eval.clone() };
            let task = EvalTask { split: job.split, cases: &job.split.valid, config: &eval, candidates: &[] };
            let (report, _) = evaluate(job.model, job.features, &task, "validation", &encode::no_progress)?;
            let value = report.get(&c.metric.to_lowercase());
            let best = at.best.is_none_or(|b| value > b);
            if best {
                at.best = Some(value);
                at.stale = 0;
                save_best(job)?;
            } else {
                at.stale += 1;
            }
            let seconds = started.elapsed().as_secs_f64();
            tell(
                observers,
                Event::Validation {
                    step: at.step,
                    epoch,
                    metrics: report.all,
                    best,
                    train_loss,
                    epoch_seconds,
                    seconds,
                },
            )?;
            if c.patience > 0 && at.stale >= c.patience {
                at.ended = Some(format!("no better {} in {} validations", c.metric, at.stale));
            }
        }
        if at.epoch == c.epochs && at.ended.is_none() {
            at.ended = Some(format!("all {} epochs done", c.epochs));
        }
        save(&at, &optimizer)?;
    }
    if at.best.is_none() {
        // Stopped, and told to end, before its first validation: the last model is the best there is.
        save_best(job)?;
    }
    let reason = at.ended.clone().unwrap_or_else(|| "all epochs done".into());
    tell(observers, Event::End { step: at.step, reason: reason.clone() })?;
    Ok(Outcome { steps: at.step, best: at.best, reason })
}

fn save_best(job: &TrainJob) -> Result<()> {
    let staged = Staged::new(&job.dir.join("best"))?;
    folder::save(staged.path(), job.model, job.ids)?;
    staged.commit()
}

fn tell(observers: &mut [Box<dyn Observer + '_>], event: Event) -> Result<()> {
    observers.iter_mut().try_for_each(|o| o.on(&event))
}

fn in_step(step: u64, e: Error) -> Error {
    Error::Numeric(format!("step {}: {e}", step + 1))
}

/// Forward and backward of one batch; its gradient, times `scale`, is added to the parameters', or used up by `ready`
/// parameter by parameter. Returns the loss.
fn backward(
    job: &TrainJob,
    objective: &dyn Objective,
    batch: &Batch,
    pass_number: u64,
    scale: f64,
    step: u64,
    ready: Option<OnGradient>,
) -> Result<f64> {
    let seed = job.config.seed;
    let most = job.config.train.encode_items;
    let run = || {
        if most > 0 && batch.items.len() > most {
            let s = Step { model: job.model, features: job.features, objective, seed, pass: pass_number };
            return two_pass::backward(&s, batch, most, scale, ready);
        }
        let tape = Tape::new();
        let train = TrainContext::new(&tape, seed, pass_number);
        let loss = forward(job.model, job.features, objective, batch, &Pass::train(&train))?;
        let value = check_loss(&loss)?;
        let one = Tensor::full(scale as f32, loss.value().shape(), loss.value().device())?;
        tape.backward_with(&loss, one, ready)?;
        Ok(value)
    };
    run().map_err(|e| match e {
        Error::Numeric(_) => in_step(step, e),
        e => e,
    })
}

/// The value of a loss, if it is a number.
pub(super) fn check_loss(loss: &Act) -> Result<f64> {
    let value = f64::from(loss.value().to_scalar::<f32>()?);
    if value.is_finite() {
        return Ok(value);
    }
    Err(Error::Numeric(format!("the loss is {value}; lower train.lr, or set train.clip")))
}

/// The loss of a batch.
pub fn forward(
    model: &Recommender,
    features: &Features,
    objective: &dyn Objective,
    batch: &Batch,
    pass: &Pass,
) -> Result<Act> {
    let items = model.item.encode(&ItemTable { ids: &batch.items, features }, pass)?;
    from_items(model, objective, batch, &items, pass)
}

/// The loss of a batch, given the vectors of its items.
pub(super) fn from_items(
    model: &Recommender,
    objective: &dyn Objective,
    batch: &Batch,
    items: &Act,
    pass: &Pass,
) -> Result<Act> {
    let inputs = ops::gather_or_fill(pass, items, batch.inputs.clone(), model.user.mask())?;
    let mut users = model.user.encode(&inputs, &batch.histories, pass)?;
    if let Some(rows) = &batch.rows {
        users = ops::gather(pass, &users, rows.clone())?;
    }
    objective.loss(&users, items, batch, pass)
}

/// After the first backward every trainable parameter has a gradient, or the run stops and names those without; but not
/// those of a modality that no item of the batch had.
fn guard(model: &Recommender, seen: ModalitySet, step: u64) -> Result<()> {
    let mut missing = if step == 0 { model.params.without_grad() } else { vec![] };
    let idle =
        |name: &str| Modality::ALL.into_iter().any(|m| !seen.contains(m) && name.starts_with(&m.parameter_prefix()));
    missing.retain(|name| !idle(name));
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::Numeric(format!("no gradient reaches these trainable parameters: {}; freeze them", missing.join(", "))))
}
