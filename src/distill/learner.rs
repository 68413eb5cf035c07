//! The epochs of a distillation, of any modality; resumable at any step.

use super::DistillConfig;
use super::progress::Progress;
use crate::config::{Schedule, TrainConfig};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest, Staged};
use crate::nn::weights::Weights;
use crate::nn::{Params, host};
use crate::rng::Stream;
use crate::train::optimizer::AdamW;
use crate::train::schedule;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FORMAT: u32 = 1;

/// Position of the training loop, stored in checkpoints.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Cursor {
    epoch: usize,
    batch: usize,
    pub step: u64,
    loss_sum: f64,
    pub last_loss: f64,
}

/// The training loop of a student.
pub(super) struct Learner<'a> {
    pub config: &'a DistillConfig,
    pub params: &'a Params,
    /// Digest of everything that a checkpoint depends on.
    pub identity: &'a str,
    /// Number of training samples.
    pub count: usize,
    /// Folder of the checkpoints.
    pub work: &'a Path,
}

impl Learner<'_> {
    /// Runs all epochs; `step(samples, number)` adds the gradient of a batch and returns its loss.
    pub fn learn(&self, step: &dyn Fn(&[u32], u64) -> Result<f64>, on_progress: &dyn Fn(Progress)) -> Result<Cursor> {
        let (c, params) = (self.config, self.params);
        let last = self.work.join("last");
        let mut optimizer = AdamW::default();
        let mut at = Cursor::default();
        if last.exists()
            && let Some(found) = restore(&last, self.identity, params, &mut optimizer)?
        {
            at = found;
            on_progress(Progress::Note(&format!("going on at step {}", at.step)));
        }
        let n = self.count;
        let batches = n.div_ceil(c.batch_size);
        let total = (batches * c.epochs) as u64;
        let rhythm =
            TrainConfig { schedule: Schedule::Cosine, warmup_steps: (total / 20) as usize, ..Default::default() };
        let mut recent = f64::NAN;
        while at.epoch < c.epochs {
            let mut order: Vec<u32> = (0..n as u32).collect();
            Stream::new(c.seed, &format!("distill/shuffle/{}", at.epoch)).shuffle(&mut order);
            while at.batch < batches {
                let from = at.batch * c.batch_size;
                let which = &order[from..(from + c.batch_size).min(n)];
                params.clear_grads();
                let loss = step(which, at.step)?;
                if at.step == 0 {
                    let missing = params.without_grad();
                    if !missing.is_empty() {
                        return Err(Error::Numeric(format!("no gradient reaches {}", missing.join(", "))));
                    }
                }
                AdamW::norm(params)?;
                let lr = c.lr * schedule::factor(&rhythm, at.step, total);
                optimizer.step(params, |_| lr, c.weight_decay, 1.0)?;
                at.step += 1;
                at.batch += 1;
                at.loss_sum += loss;
                recent = if recent.is_nan() { loss } else { 0.98 * recent + 0.02 * loss };
                on_progress(Progress::Step(at.step, total, recent));
                if c.checkpoint_steps > 0 && at.step.is_multiple_of(c.checkpoint_steps as u64) {
                    save(&last, self.identity, params, &optimizer, &at)?;
                }
            }
            let mean = at.loss_sum / batches as f64;
            on_progress(Progress::Note(&format!("epoch {} of {}: loss {mean:.4}", at.epoch + 1, c.epochs)));
            at = Cursor { epoch: at.epoch + 1, batch: 0, step: at.step, loss_sum: 0.0, last_loss: mean };
            save(&last, self.identity, params, &optimizer, &at)?;
        }
        Ok(at)
    }
}

fn save(dir: &Path, identity: &str, params: &Params, optimizer: &AdamW, at: &Cursor) -> Result<()> {
    let staged = Staged::new(dir)?;
    params.save(&staged.path().join("model.safetensors"))?;
    optimizer.save(&staged.path().join("optimizer.safetensors"), params)?;
    fsio::write_json(&staged.path().join("cursor.json"), at)?;
    let mut manifest = Manifest::new("distillation", FORMAT);
    manifest.inputs.insert("lesson".into(), identity.into());
    manifest.seal(staged.path(), &["model.safetensors", "optimizer.safetensors", "cursor.json"])?;
    staged.commit()
}

/// The checkpoint in `dir`; `None` if it belongs to a distillation with other inputs or settings.
fn restore(dir: &Path, identity: &str, params: &Params, optimizer: &mut AdamW) -> Result<Option<Cursor>> {
    let remake = "remove this folder to start again";
    let manifest = Manifest::read(dir, "distillation", FORMAT, remake)?;
    if manifest.inputs.get("lesson").map(String::as_str) != Some(identity) {
        let m = "holds a distillation with other settings or texts; --work names another folder, --force starts again";
        return Err(Error::Usage(format!("{}: {m}", dir.display())));
    }
    manifest.verify(dir, true)?;
    let path = dir.join("cursor.json");
    let at: Cursor = serde_json::from_str(&fsio::read_model_text(&path)?)
        .map_err(|e| Error::model(&path, format!("damaged: {e}; {remake}")))?;
    let values = Weights::open(&dir.join("model.safetensors"))?;
    for p in params.iter() {
        if values.shape(p.name()) != Some(p.shape()) {
            let m = format!("`{}` is missing or has another shape; {remake}", p.name());
            return Err(Error::model(values.path(), m));
        }
        let data = values.read(p.name())?;
        host::update(&p.value(), |v| v.copy_from_slice(&data))?;
    }
    optimizer.restore(at.step, &Weights::open(&dir.join("optimizer.safetensors"))?, params)?;
    Ok(Some(at))
}
