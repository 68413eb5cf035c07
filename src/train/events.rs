//! Training events and their observers, such as the metrics file, TensorBoard and the progress bar.

use crate::error::{Error, Result};
use crate::eval::Metrics;
use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// An event of a training run.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Training starts or is resumed.
    Start {
        /// Number of optimiser steps of the whole run, unless it stops early.
        total_steps: u64,
        /// Number of steps per epoch.
        epoch_steps: u64,
        /// Number of steps already taken, greater than 0 when resumed.
        step: u64,
    },
    /// One optimiser step was taken.
    Step {
        /// Step number (1-based).
        step: u64,
        /// Epoch (0-based).
        epoch: usize,
        /// Mean loss of the step's batches.
        loss: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Schedule factor on the learning rates.
        lr_factor: f64,
        /// Number of distinct items encoded in the step.
        items: usize,
        /// Duration of the step in seconds.
        seconds: f64,
    },
    /// A validation was made.
    Validation {
        /// Number of steps taken before the validation.
        step: u64,
        /// Epoch (0-based) after which the validation was made.
        epoch: usize,
        /// Metrics on the validation cases.
        metrics: Metrics,
        /// Whether the validation metric is the best so far.
        best: bool,
        /// Mean training loss of the epoch.
        train_loss: f64,
        /// Training time of the epoch in seconds.
        epoch_seconds: f64,
        /// Duration of the validation in seconds.
        seconds: f64,
    },
    /// Training ended.
    End {
        /// Number of steps taken.
        step: u64,
        /// Reason why training ended.
        reason: String,
    },
}

impl Event {
    /// Optimiser step of the event.
    pub fn step(&self) -> u64 {
        match self {
            Self::Start { step, .. }
            | Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::End { step, .. } => *step,
        }
    }
}

/// Observer of training events.
pub trait Observer {
    /// Called for each event, in order.
    fn on(&mut self, event: &Event) -> Result<()>;
}

/// Writer of `metrics.jsonl`: one event per line, appended; step events only every `every` steps.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    every: u64,
}

impl MetricsFile {
    /// Opens the metrics file of a run that continues after `step`; later lines of an interrupted run are removed.
    pub fn open(path: &Path, step: u64, every: u64) -> Result<Self> {
        if path.exists() {
            // Lines damaged by a crash, or not UTF-8, are removed.
            let text = std::fs::read(path).map_err(Error::io(path))?;
            let kept: String = String::from_utf8_lossy(&text)
                .lines()
                .filter(|l| {
                    serde_json::from_str::<serde_json::Value>(l)
                        .is_ok_and(|v| v["step"].as_u64().is_some_and(|s| s <= step) && v["event"] != "end")
                })
                .map(|l| format!("{l}\n"))
                .collect();
            crate::fsio::write_bytes(path, kept.as_bytes())?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::io(path))?;
        Ok(Self { path: path.into(), file, every })
    }
}

impl Observer for MetricsFile {
    fn on(&mut self, event: &Event) -> Result<()> {
        if matches!(event, Event::Step { step, .. } if step % self.every != 0) {
            return Ok(());
        }
        let line = serde_json::to_string(event).map_err(|e| Error::Numeric(format!("metrics: {e}")))?;
        writeln!(self.file, "{line}").map_err(Error::io(&self.path))
    }
}
