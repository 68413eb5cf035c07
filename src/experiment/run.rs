//! One run from its settings to `result.json`, `ranks.parquet`, `manifest.json`.

use super::plan::{blueprint, resolve};
use super::prepare::Prepared;
use super::result::{ExistingRun, RunResult, TrainingSummary, protocol, result_of};
use super::run_folder;
use super::usage;
use crate::config::Config;
use crate::error::{Error, Result};
use crate::eval::encode::ProgressFn;
use crate::eval::{Candidates, EvalTask, Report, build_frozen_caches, evaluate, ranks_file};
use crate::fsio;
use crate::item::Features;
use crate::model::{ModelFolder, Recommender, folder, parse_device};
use crate::train::events::MetricsFile;
use crate::train::tensorboard::TensorBoard;
use crate::train::{self, Observer, Outcome, TrainJob};
use crate::transfer::{self, Plan};
use crate::user::UserEncoderBuilder;
use std::path::Path;
use std::time::Instant;

/// A run that is to be made.
#[derive(Clone)]
pub struct Experiment<'a> {
    /// All settings.
    pub config: &'a Config,
    /// The divided data set.
    pub prepared: &'a Prepared,
    /// The model that values are loaded from.
    pub source: Option<&'a ModelFolder>,
    /// The run's folder.
    pub dir: &'a Path,
    /// What to do when the folder holds a run.
    pub existing: ExistingRun,
    /// A user encoder of the caller's own, with `user.kind = "custom"`.
    pub user_encoder: Option<UserEncoderBuilder>,
}

impl<'a> Experiment<'a> {
    /// A new run without a source.
    pub fn new(config: &'a Config, prepared: &'a Prepared, dir: &'a Path) -> Self {
        Self { config, prepared, source: None, dir, existing: ExistingRun::New, user_encoder: None }
    }
    /// Makes the run. `observers` are told of training beside the run's own files, `on_progress` of the encoding of the
    /// catalogue.
    ///
    /// # Errors
    /// Settings that are impossible or do not fit the source, a folder in the way, numbers that are not finite.
    pub fn run(&self, observers: Vec<Box<dyn Observer + '_>>, on_progress: ProgressFn) -> Result<RunResult> {
        let (config, prepared, dir) = (self.config, self.prepared, self.dir);
        config.check()?;
        let started = Instant::now();
        usage::reset_peak_memory();
        let device = parse_device(&config.device)?;
        let mut blueprint = blueprint(config, self.source, prepared.counts(), self.user_encoder.as_ref())?;
        let plan = resolve(config, &blueprint.declare()?, self.source)?;
        blueprint.base = self.source.filter(|_| keeps_only_adapter(config, &plan)).map(ModelFolder::as_base);
        let candidates = prepared.candidates(&config.eval, &prepared.split.test)?;
        if plan.counts().0 > 0 {
            // Refuses objectives that this catalogue is too small for.
            crate::objective::build(&config.objective, &prepared.split)?;
        }
        let inputs = run_folder::inputs(prepared, self.source, &blueprint)?;
        let needed = self.source.map_or(Ok(vec![]), |s| folder::base_chain(&s.dir))?;
        let (resume, _lock) = run_folder::start(dir, config, prepared, &inputs, self.existing, &needed)?;

        let model = blueprint.build(&device, &plan.actions(), self.source.map(|s| &s.weights))?;
        let mut features = model.features_with_progress(&prepared.content(), on_progress)?;
        transfer::check_catalogue(config, &features)?;
        build_frozen_caches(&model, &mut features, prepared.data.dir.as_deref(), on_progress)?;
        let mut summary = TrainingSummary::new(started);
        let outcome = self.train(&model, &features, &plan, resume, observers, &mut summary)?;
        load_best(dir, &model)?;
        let test = self.test(&model, &features, &candidates, on_progress)?;
        let result = self.result(test, &features, &plan, outcome, &summary)?;
        let result = match result_of(dir) {
            // Nothing was trained in this session: time and memory are those of the earlier one.
            Some(old) if resume && summary.steps == 0 => result.with_cost_of(&old),
            _ => result,
        };
        fsio::write_json(&dir.join("result.json"), &result)?;
        Ok(result)
    }
    /// Trains what the plan trains; afterwards `best/` holds the best model.
    fn train(
        &self,
        model: &Recommender,
        features: &Features,
        plan: &Plan,
        resume: bool,
        observers: Vec<Box<dyn Observer + '_>>,
        summary: &mut TrainingSummary,
    ) -> Result<Outcome> {
        let (config, prepared, dir) = (self.config, self.prepared, self.dir);
        let ids = prepared.ids();
        if plan.counts().0 == 0 {
            let staged = fsio::Staged::new(&dir.join("best"))?;
            folder::save(staged.path(), model, ids)?;
            staged.commit()?;
            return Ok(Outcome { steps: 0, best: None, reason: "nothing trains".into() });
        }
        let step = if resume { train::checkpoint::step_of(&dir.join("last"))? } else { 0 };
        let mut all: Vec<Box<dyn Observer + '_>> = vec![
            Box::new(MetricsFile::open(&dir.join("metrics.jsonl"), step, 10)?),
            Box::new(TensorBoard::create(&dir.join("tensorboard"), step, 10)?),
            Box::new(summary),
        ];
        all.extend(observers);
        train::run(&TrainJob { config, split: &prepared.split, features, ids, model, dir, resume }, &mut all)
    }
    /// Ranks the test part and writes `ranks.parquet`.
    fn test(
        &self,
        model: &Recommender,
        features: &Features,
        candidates: &[Candidates],
        on_progress: ProgressFn,
    ) -> Result<Report> {
        let (split, cases) = (&self.prepared.split, &self.prepared.split.test);
        let task = EvalTask { split, cases, config: &self.config.eval, candidates };
        let (report, ranked) = evaluate(model, features, &task, &protocol(self.config, "test"), on_progress)?;
        ranks_file::write(&self.dir.join("ranks.parquet"), &self.prepared.data, split, cases, &ranked.ranks)?;
        Ok(report)
    }
    fn result(
        &self,
        test: Report,
        features: &Features,
        plan: &Plan,
        outcome: Outcome,
        summary: &TrainingSummary,
    ) -> Result<RunResult> {
        let dir = self.dir;
        Ok(RunResult {
            name: dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
            dir: dir.display().to_string(),
            test,
            best_valid: outcome.best.map(|b| (self.config.train.metric.clone(), b)),
            parameters: plan.counts(),
            epochs: summary.epochs.max(outcome.steps.checked_div(summary.epoch_steps).unwrap_or(0) as usize),
            steps: outcome.steps,
            epoch_seconds: (summary.epochs > 0).then(|| summary.seconds / summary.epochs as f64),
            first_step_seconds: summary.first_step,
            seconds: summary.started.elapsed().as_secs_f64(),
            peak_memory: usage::peak_memory(),
            model_bytes: Some(folder::size(&dir.join("best"))?),
            rounding: features.frozen.values().filter_map(|c| c.rounding()).collect(),
            ended: outcome.reason,
        })
    }
}

/// Whether only what differs from the source is kept: under the presets of adapters, and wherever nothing else trains.
fn keeps_only_adapter(config: &Config, plan: &Plan) -> bool {
    let only_added = plan.rows.iter().any(|r| r.added) && plan.rows.iter().all(|r| r.added || !r.train);
    transfer::is_adapter_preset(&config.transfer.preset) || only_added
}

/// Loads the parameters of a run's best model into the trained one; parameters that training did not change are not read.
fn load_best(dir: &Path, model: &Recommender) -> Result<()> {
    let best = dir.join("best");
    folder::check(&best)?;
    let values = folder::values(&best, model)?;
    for p in model.params.iter().filter(|p| p.is_updated()) {
        if values.shape(p.name()) != Some(p.shape()) {
            let m = format!("`{}` is missing or has another shape; start the run again with --force", p.name());
            return Err(Error::model(values.path(), m));
        }
        p.set(&values.tensor(p.name(), &model.device)?)?;
    }
    Ok(())
}

/// [`Experiment::run`] for a run of these settings and this source.
///
/// # Errors
/// As [`Experiment::run`].
pub fn execute(
    config: &Config,
    prepared: &Prepared,
    source: Option<&ModelFolder>,
    dir: &Path,
    existing: ExistingRun,
    observers: Vec<Box<dyn Observer + '_>>,
    on_progress: ProgressFn,
) -> Result<RunResult> {
    Experiment { source, existing, ..Experiment::new(config, prepared, dir) }.run(observers, on_progress)
}
