//! Results of a run: `result.json`.

use crate::config::Config;
use crate::error::Result;
use crate::eval::Report;
use crate::fsio;
use crate::item::frozen_cache::RoundingError;
use crate::train::{Event, Observer};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// What to do when the run folder already exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExistingRun {
    /// Refuse with an error.
    New,
    /// Continue from the last checkpoint, or return the result if the run has ended.
    Resume,
    /// Remove the old run and start again.
    Force,
}

/// Result of a run; `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name of the run in tables.
    pub name: String,
    /// Path of the run folder.
    pub dir: String,
    /// Test metrics of the best model.
    pub test: Report,
    /// Name and value of the best validation metric.
    pub best_valid: Option<(String, f64)>,
    /// Number of trainable parameters and of all parameters.
    pub parameters: (usize, usize),
    /// Number of epochs trained.
    pub epochs: usize,
    /// Number of optimiser steps.
    pub steps: u64,
    /// Mean training time per epoch in seconds (without validation).
    pub epoch_seconds: Option<f64>,
    /// Seconds from the start to the end of the first step; this session only.
    #[serde(default)]
    pub first_step_seconds: Option<f64>,
    /// Seconds of the whole run; this session only.
    pub seconds: f64,
    /// Peak memory in bytes; this session only.
    pub peak_memory: Option<u64>,
    /// Size of the best model's folder in bytes (of an adapter: its own files only).
    #[serde(default)]
    pub model_bytes: Option<u64>,
    /// Rounding errors of the frozen-layer caches, with `item.cache = "f16"`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounding: Vec<RoundingError>,
    /// Reason why training ended.
    pub ended: String,
}

impl RunResult {
    /// Returns this result with the time and memory recorded in `old`, an earlier result of the same run.
    pub(super) fn with_cost_of(self, old: &Self) -> Self {
        let (epoch_seconds, first_step_seconds) = (old.epoch_seconds, old.first_step_seconds);
        let (seconds, peak_memory) = (old.seconds, old.peak_memory);
        Self { epoch_seconds, first_step_seconds, seconds, peak_memory, ..self }
    }
}

/// Reads the result stored in a run folder; `None` for a model folder and for an unfinished run.
pub fn result_of(dir: &Path) -> Option<RunResult> {
    serde_json::from_str(&fsio::read_text(&dir.join("result.json")).ok()?).ok()
}

/// Name of the evaluation protocol in reports, for example `test of split morec`.
pub fn protocol(config: &Config, part: &str) -> String {
    let split = serde_json::to_value(config.data.split).ok().and_then(|v| v.as_str().map(String::from));
    format!("{part} of split {}", split.unwrap_or_default())
}

/// Counts and times of a training session.
pub(super) struct TrainingSummary {
    pub(super) started: Instant,
    pub(super) first_step: Option<f64>,
    pub(super) epochs: usize,
    pub(super) seconds: f64,
    pub(super) epoch_steps: u64,
    pub(super) steps: u64,
}

impl TrainingSummary {
    pub(super) fn new(started: Instant) -> Self {
        Self { started, first_step: None, epochs: 0, seconds: 0.0, epoch_steps: 0, steps: 0 }
    }
}

impl Observer for &mut TrainingSummary {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Start { epoch_steps, .. } => self.epoch_steps = *epoch_steps,
            Event::Validation { epoch_seconds, .. } => {
                self.epochs += 1;
                self.seconds += epoch_seconds;
            }
            Event::Step { .. } => {
                self.steps += 1;
                self.first_step.get_or_insert(self.started.elapsed().as_secs_f64());
            }
            Event::End { .. } => {}
        }
        Ok(())
    }
}
