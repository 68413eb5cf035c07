//! What happens during training, for whoever wants to know: a metrics file, TensorBoard, a progress bar.

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
        /// Optimiser steps of the whole run, if it is not stopped early.
        total_steps: u64,
        /// Steps an epoch.
        epoch_steps: u64,
        /// Step it begins at.
        step: u64,
    },
    /// An optimiser step.
    Step {
        /// 1-based.
        step: u64,
        /// 0-based.
        epoch: usize,
        /// Mean loss of the step's batches.
        loss: f64,
        /// Norm of the gradient before clipping.
        grad_norm: f64,
        /// Factor on the learning rates.
        lr_factor: f64,
        /// Distinct items encoded in the step.
        items: usize,
        /// Seconds it took.
        seconds: f64,
    },
    /// A validation.
    Validation {
        /// Step after which.
        step: u64,
        /// 0-based epoch after which.
        epoch: usize,
        /// Its metrics.
        metrics: Metrics,
        /// Whether it is the best so far.
        best: bool,
        /// Mean training loss of the epoch.
        train_loss: f64,
        /// Seconds of training in the epoch.
        epoch_seconds: f64,
        /// Seconds of the validation.
        seconds: f64,
    },
    /// Training ended.
    End {
        /// Steps taken.
        step: u64,
        /// Why.
        reason: String,
    },
}

impl Event {
    /// The optimiser step that the event belongs to.
    pub fn step(&self) -> u64 {
        match self {
            Self::Start { step, .. }
            | Self::Step { step, .. }
            | Self::Validation { step, .. }
            | Self::End { step, .. } => *step,
        }
    }
}

/// Receives the events of training.
pub trait Observer {
    /// Called for every event, in order.
    fn on(&mut self, event: &Event) -> Result<()>;
}

/// `metrics.jsonl`: one event a line, appended; every `every`-th step and everything else.
pub struct MetricsFile {
    path: PathBuf,
    file: File,
    every: u64,
}

impl MetricsFile {
    /// Opens the file of a run that continues after `step`; later lines of a run cut short are dropped.
    pub fn open(path: &Path, step: u64, every: u64) -> Result<Self> {
        if path.exists() {
            // A line that a crash left damaged, or that is not UTF-8, is dropped.
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
