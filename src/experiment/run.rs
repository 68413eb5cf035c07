//! Plan, build, train, test, write `result.json`, `ranks.parquet`, `manifest.json`.

use super::prepare::{Prepared, text_folder};
use super::usage;
use crate::baseline::{self, Baseline, Markov, MostPopular};
use crate::config::{Config, Schedule};
use crate::error::{Error, Result};
use crate::eval::encode::Watch;
use crate::eval::{Report, encode, ranks_file};
use crate::fsio::{self, Manifest};
use crate::model::{Blueprint, ModelFolder, Recommender, pick_device};
use crate::train::events::MetricsFile;
use crate::train::tensorboard::TensorBoard;
use crate::train::{self, Event, Job, Observer};
use crate::transfer::Plan;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::time::Instant;

/// What to do when the run's folder exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// An error.
    New,
    /// Go on from its last checkpoint (or report it, if it has ended).
    Resume,
    /// Remove it and start again.
    Force,
}

/// What came out of a run; `result.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunResult {
    /// Name in tables.
    pub name: String,
    /// The run's folder.
    pub dir: String,
    /// Test metrics of the best model.
    pub test: Report,
    /// Best validation metric, with its name.
    pub best_valid: Option<(String, f64)>,
    /// Trainable and all parameters.
    pub parameters: (usize, usize),
    /// Epochs trained.
    pub epochs: usize,
    /// Optimiser steps.
    pub steps: u64,
    /// Mean seconds of training an epoch (validation not counted).
    pub epoch_seconds: Option<f64>,
    /// Seconds of the whole, this session only.
    pub seconds: f64,
    /// Peak memory in bytes, this session only.
    pub peak_memory: Option<u64>,
    /// Why training ended.
    pub ended: String,
}

/// The blueprint of a configuration: with a source, its encoder's architecture and tokenizer; the pre-trained folder
/// itself only where some value is to come from it.
fn blueprint(config: &Config, source: Option<&ModelFolder>, count: usize) -> Result<Blueprint> {
    let wants_pretrained = matches!(config.transfer.preset.as_str(), "" | "from-scratch")
        || config.transfer.rules.iter().any(|r| r.action.contains("pretrained"));
    let folder = match source {
        Some(s) if !wants_pretrained => s.text.clone(),
        _ => text_folder(config)?,
    };
    Ok(Blueprint { config: config.clone(), count, folder })
}

/// Resolves the plan of a configuration without building anything.
pub fn plan_of(config: &Config, source: Option<&ModelFolder>, count: usize) -> Result<Plan> {
    let specs = blueprint(config, source, count)?.declare()?;
    Plan::resolve(&specs, source.map(|s| &s.weights), &config.transfer.preset, &config.transfer.rules)
}

/// Runs a configuration to its result in `dir`. `more` listens to training beside the run's own files, `watch` to the
/// encoding of the catalogue.
pub fn execute(
    config: &Config,
    prepared: &Prepared,
    source: Option<&ModelFolder>,
    dir: &Path,
    mode: Mode,
    more: Vec<Box<dyn Observer + '_>>,
    watch: Watch,
) -> Result<RunResult> {
    config.check()?;
    let started = Instant::now();
    usage::reset_peak_memory();
    let device = pick_device(&config.device)?;
    let blueprint = blueprint(config, source, prepared.item_ids.len())?;
    let specs = blueprint.declare()?;
    let plan = Plan::resolve(&specs, source.map(|s| &s.weights), &config.transfer.preset, &config.transfer.rules)?;
    let resume = start_folder(dir, config, prepared, source, mode)?;
    let model = blueprint.build(&device, &plan.actions(), source.map(|s| &s.weights))?;
    let mut features = blueprint.features(&prepared.texts)?;
    encode::cache_frozen(&model, &mut features, watch)?;

    let mut seen = Summary::default();
    let outcome = if plan.counts().0 == 0 {
        let staged = fsio::Staged::new(&dir.join("best"))?;
        crate::model::folder::save(staged.path(), &model, &prepared.item_ids)?;
        staged.commit()?;
        train::Outcome { steps: 0, best: None, reason: "nothing trains".into() }
    } else {
        let job = Job {
            config,
            split: &prepared.split,
            features: &features,
            item_ids: &prepared.item_ids,
            model: &model,
            dir,
            resume,
        };
        let step = if resume { train::checkpoint::step_of(&dir.join("last"))? } else { 0 };
        let mut observers: Vec<Box<dyn Observer + '_>> = vec![
            Box::new(MetricsFile::open(&dir.join("metrics.jsonl"), step, 10)?),
            Box::new(TensorBoard::create(&dir.join("tensorboard"), 10)?),
            Box::new(&mut seen),
        ];
        observers.extend(more);
        train::run(&job, &mut observers)?
    };
    let best = load_best(dir, &model)?;
    let (cases, eval) = (&prepared.split.test, &config.eval);
    let (test, ranks) =
        encode::evaluate(&best, &features, &prepared.split, cases, eval, &protocol(config, "test"), watch)?;
    ranks_file::write(&dir.join("ranks.parquet"), &prepared.data, &prepared.split, cases, &ranks)?;
    let result = RunResult {
        name: dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        dir: dir.display().to_string(),
        test,
        best_valid: outcome.best.map(|b| (config.train.metric.clone(), b)),
        parameters: plan.counts(),
        epochs: seen.epochs.max(outcome.steps.checked_div(seen.epoch_steps).unwrap_or(0) as usize),
        steps: outcome.steps,
        epoch_seconds: (seen.epochs > 0).then(|| seen.seconds / seen.epochs as f64),
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: usage::peak_memory(),
        ended: outcome.reason,
    };
    fsio::write_json(&dir.join("result.json"), &result)?;
    Ok(result)
}

/// Which events were ranked, in words.
pub fn protocol(config: &Config, part: &str) -> String {
    let split = serde_json::to_value(config.data.split).ok().and_then(|v| v.as_str().map(String::from));
    format!("{part} of split {}", split.unwrap_or_default())
}

/// Test rows of the baselines that need no training.
pub fn baseline_rows(config: &Config, prepared: &Prepared) -> Result<Vec<(String, Report)>> {
    let split = &prepared.split;
    let all: [Box<dyn Baseline>; 2] = [Box::new(MostPopular::new(split)), Box::new(Markov::new(split))];
    all.iter()
        .map(|b| {
            let ranks = baseline::rank(b.as_ref(), split, &split.test, &config.eval)?;
            let report = encode::report(split, &split.test, &ranks, &config.eval, &protocol(config, "test"));
            Ok((b.name().to_string(), report))
        })
        .collect()
}

/// The best model of a run, frozen; shares the built model's shape.
fn load_best(dir: &Path, model: &Recommender) -> Result<Recommender> {
    ModelFolder::open(&dir.join("best"))?.build(&model.device)
}

/// Settings that may change when a run goes on: how long it trains and how often it saves, not what it does.
/// (A cosine schedule is made from the number of epochs.)
fn free_on_resume(config: &Config) -> Vec<&'static str> {
    let mut free = vec!["name", "device", "train.patience", "train.checkpoint_steps"];
    if config.train.schedule == Schedule::Constant {
        free.push("train.epochs");
    }
    free
}

/// Makes the run's folder and writes down what it will be made from. Returns whether to resume.
fn start_folder(
    dir: &Path,
    config: &Config,
    data: &Prepared,
    source: Option<&ModelFolder>,
    mode: Mode,
) -> Result<bool> {
    let path = dir.join("config.toml");
    let text = crate::config::to_toml(config)?;
    if path.exists() {
        match mode {
            Mode::New => {
                let m = "this run exists; --resume goes on with it, --force starts it again, --out names another";
                return Err(Error::Usage(format!("{}: {m}", dir.display())));
            }
            Mode::Force => std::fs::remove_dir_all(dir).map_err(Error::io(dir))?,
            Mode::Resume => {
                fsio::clear_unfinished(dir)?;
                let old = Manifest::read(dir, "run", 1, "start it again with --force")?;
                let before = crate::config::load(&Config::default(), &[&path], &[])?;
                let changed = match crate::config::first_difference(&before, config, &free_on_resume(config))? {
                    None if old.inputs != inputs(data, source) => Some("the data set or the source run".to_string()),
                    other => other,
                };
                if let Some(what) = changed {
                    let m = format!("{what} differs from the run's; give the same, or --force to start again");
                    return Err(Error::Usage(format!("{}: cannot resume: {m}", dir.display())));
                }
                fsio::write_bytes(&path, text.as_bytes())?;
                return Ok(true);
            }
        }
    } else if dir.join(fsio::MANIFEST).exists() {
        // Stopped before its settings were written down: nothing is lost by starting it now.
        Manifest::read(dir, "run", 1, "--out names another folder")?;
    } else if dir.exists() && fsio::holds_something(dir)? {
        return Err(Error::Usage(format!("{}: not empty and not a run; --out names another folder", dir.display())));
    }
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let mut manifest = Manifest::new("run", 1);
    manifest.inputs = inputs(data, source);
    manifest.config = serde_json::to_value(config).unwrap_or_default();
    manifest.facts = serde_json::json!({
        "data": data.data.name,
        "users": data.split.users.len(),
        "items": data.split.items.len(),
        "train_events": data.split.train_events(),
        "threads": rayon::current_num_threads(),
    });
    manifest.seal(dir, &[])?;
    fsio::write_bytes(&path, text.as_bytes())?;
    Ok(false)
}

fn inputs(data: &Prepared, source: Option<&ModelFolder>) -> std::collections::BTreeMap<String, String> {
    let mut all = std::collections::BTreeMap::from([("data".to_string(), data.data.digest.clone())]);
    if let Some(s) = source {
        all.insert("source".into(), s.digest.clone());
    }
    all
}

/// Adds up epochs as they pass.
#[derive(Default)]
struct Summary {
    epochs: usize,
    seconds: f64,
    epoch_steps: u64,
}

impl Observer for &mut Summary {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Start { epoch_steps, .. } => self.epoch_steps = *epoch_steps,
            Event::Validation { epoch_seconds, .. } => {
                self.epochs += 1;
                self.seconds += epoch_seconds;
            }
            _ => {}
        }
        Ok(())
    }
}
