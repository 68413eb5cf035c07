//! Inputs and outcome of a training run.

use crate::config::Config;
use crate::data::Split;
use crate::item::Features;
use crate::model::{Recommender, TableIds};
use std::path::Path;

/// Inputs of a training run: model, data, settings and run folder.
pub struct TrainJob<'a> {
    /// Settings of the run.
    pub config: &'a Config,
    /// Data split into training, validation and test.
    pub split: &'a Split,
    /// Content of the candidates.
    pub features: &'a Features,
    /// Raw ids of candidates and users.
    pub ids: TableIds<'a>,
    /// Model to train; its parameters are changed in place.
    pub model: &'a Recommender,
    /// Path of the run folder.
    pub dir: &'a Path,
    /// Whether to resume from the checkpoint in `last/`, if there is one.
    pub resume: bool,
}

/// Outcome of a training run.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// Number of optimiser steps taken.
    pub steps: u64,
    /// Best validation metric; `None` without validation.
    pub best: Option<f64>,
    /// Reason why training ended.
    pub reason: String,
}
