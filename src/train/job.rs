//! What a training takes and gives.

use crate::config::Config;
use crate::data::Split;
use crate::item::Features;
use crate::model::{Recommender, TableIds};
use std::path::Path;

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
    /// Number of optimiser steps taken.
    pub steps: u64,
    /// Best validation metric.
    pub best: Option<f64>,
    /// Why it ended.
    pub reason: String,
}
