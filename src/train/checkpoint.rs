//! Checkpoints in `last/` of a run folder: model, optimiser state and cursor, replaced atomically as one folder.

use super::optimizer::AdamW;
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest, Staged};
use crate::model::{Recommender, TableIds, folder};
use crate::nn::weights::Weights;
use serde::{Deserialize, Serialize};
use std::path::Path;

const FORMAT: u32 = 1;

/// Training position; with the seed, all that is needed to resume exactly.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Cursor {
    /// Current epoch (0-based).
    pub epoch: usize,
    /// Number of batches of the current epoch already trained on.
    pub batch: usize,
    /// Number of optimiser steps taken.
    pub step: u64,
    /// Number of forward passes taken (keys of dropout).
    pub passes: u64,
    /// Sum of the batch losses in this epoch.
    pub loss_sum: f64,
    /// Seconds of training in this epoch.
    pub epoch_seconds: f64,
    /// Best validation metric so far.
    pub best: Option<f64>,
    /// Number of validations since the best one.
    pub stale: usize,
    /// Reason why training ended; `None` while it has not.
    pub ended: Option<String>,
}

/// Saves a checkpoint to `dir`, replaced as one folder.
pub fn save(dir: &Path, model: &Recommender, optimizer: &AdamW, cursor: &Cursor, ids: TableIds) -> Result<()> {
    let staged = Staged::new(dir)?;
    let model_dir = staged.path().join("model");
    std::fs::create_dir(&model_dir).map_err(Error::io(&model_dir))?;
    folder::save(&model_dir, model, ids)?;
    optimizer.save(&staged.path().join("optimizer.safetensors"), &model.params)?;
    fsio::write_json(&staged.path().join("cursor.json"), cursor)?;
    Manifest::new("checkpoint", FORMAT).seal(staged.path(), &["optimizer.safetensors", "cursor.json"])?;
    staged.commit()
}

/// Restores parameters and optimiser state from `dir`; returns the cursor.
pub fn restore(dir: &Path, model: &Recommender, optimizer: &mut AdamW) -> Result<Cursor> {
    let remake = "start the run again without --resume";
    let manifest = Manifest::read(dir, "checkpoint", FORMAT, remake)?;
    manifest.verify(dir, true)?;
    folder::check(&dir.join("model"))?;
    let path = dir.join("cursor.json");
    let cursor: Cursor = serde_json::from_str(&fsio::read_model_text(&path)?)
        .map_err(|e| Error::model(&path, format!("damaged: {e}; {remake}")))?;
    let values = folder::values(&dir.join("model"), model)?;
    for p in model.params.iter().filter(|p| model.base.is_none() || p.differs_from_source()) {
        if values.shape(p.name()) != Some(p.shape()) {
            let m = format!("`{}` is missing or has another shape; the run's settings have changed", p.name());
            return Err(Error::model(values.path(), m));
        }
        if p.is_updated() {
            p.set(&values.tensor(p.name(), &model.device)?)?;
        }
    }
    optimizer.restore(cursor.step, &Weights::open(&dir.join("optimizer.safetensors"))?, &model.params)?;
    Ok(cursor)
}

/// Number of optimiser steps at the checkpoint; 0 where there is no checkpoint.
pub fn step_of(dir: &Path) -> Result<u64> {
    let path = dir.join("cursor.json");
    if !path.exists() {
        return Ok(0);
    }
    let cursor: Cursor = serde_json::from_str(&fsio::read_model_text(&path)?)
        .map_err(|e| Error::model(&path, format!("damaged: {e}; start the run again with --force")))?;
    Ok(cursor.step)
}
