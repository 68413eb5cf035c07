//! One run: from settings to `result.json`, `ranks.parquet` and `manifest.json`.

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

/// A run to be executed.
#[derive(Clone)]
pub struct Experiment<'a> {
    /// Settings of the run.
    pub config: &'a Config,
    /// The split data set.
    pub prepared: &'a Prepared,
    /// Source model whose parameters are loaded; `None` without transfer.
    pub source: Option<&'a ModelFolder>,
    /// Path of the run folder.
    pub dir: &'a Path,
    /// What to do when the run folder already exists.
    pub existing: ExistingRun,
    /// User-defined user encoder, for `user.kind = "custom"`.
    pub user_encoder: Option<UserEncoderBuilder>,
}

impl<'a> Experiment<'a> {
    /// Creates a run without a source model.
    pub fn new(config: &'a Config, prepared: &'a Prepared, dir: &'a Path) -> Self {
        Self { config, prepared, source: None, dir, existing: ExistingRun::New, user_encoder: None }
    }
    /// Executes the run. `observers` receive training events in addition to the run's own files; `on_progress` receives
    /// the progress of encoding the catalogue.
    ///
    /// # Errors
    /// Settings that are impossible or do not fit the source, an existing run folder, non-finite numbers.
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
            // Nothing was trained in this session: time and memory are taken from the earlier result.
            Some(old) if resume && summary.steps == 0 => result.with_cost_of(&old),
            _ => result,
        };
        fsio::write_json(&dir.join("result.json"), &result)?;
        Ok(result)
    }
    /// Trains the parameters that the plan trains; afterwards `best/` holds the best model.
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
    /// Ranks the test cases and writes `ranks.parquet`.
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

/// Whether only parameters that differ from the source are saved: for adapter presets, and where only adapters train.
fn keeps_only_adapter(config: &Config, plan: &Plan) -> bool {
    let only_added = plan.rows.iter().any(|r| r.added) && plan.rows.iter().all(|r| r.added || !r.train);
    transfer::is_adapter_preset(&config.transfer.preset) || only_added
}

/// Loads the best model's parameters into the trained model; parameters that training did not change are not read.
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

/// Executes a run with these settings and this source; see [`Experiment::run`].
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
