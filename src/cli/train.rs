//! `morec train`: one model on one data set.

use super::console::{Console, encoding};
use super::output;
use super::results::{Row, comparison, detail};
use super::settings::{RunsDir, Settings, prepare, run_dir};
use crate::config::{Config, UserKind};
use crate::error::{Error, Result};
use crate::experiment::{self, ExistingRun};
use clap::Args;
use std::path::PathBuf;

/// Train a model on a data set: on a source domain, or from scratch
#[derive(Debug, Args)]
pub struct TrainArgs {
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunArgs,
}

/// Where a run goes, what to do if it exists, what to print.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Folder of the run (default: RUNS/NAME); of several transfers, the folder that holds them
    #[arg(short, long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsDir,
    /// Print the plan (every parameter, its origin, whether it trains) and stop
    #[arg(long)]
    pub dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Go on with a run that was stopped
    #[arg(long, conflicts_with = "force")]
    pub resume: bool,
    /// Remove a run of this name and start it again
    #[arg(long)]
    pub force: bool,
}

impl RunArgs {
    /// The folder of a run (see `run_dir`).
    pub fn dir(&self, config: &Config, label: &str) -> PathBuf {
        run_dir(self.out.as_ref(), &self.runs.runs, config, label)
    }
    /// As [`RunArgs::dir`], without regard to `--out`.
    pub fn default_dir(&self, config: &Config, label: &str) -> PathBuf {
        run_dir(None, &self.runs.runs, config, label)
    }
    /// What to do with a run that exists.
    pub fn mode(&self) -> ExistingRun {
        match (self.resume, self.force) {
            (true, _) => ExistingRun::Resume,
            (_, true) => ExistingRun::Force,
            _ => ExistingRun::New,
        }
    }
}

/// Runs `morec train`.
pub fn run(args: TrainArgs) -> Result<()> {
    let mut config = args.settings.resolve(&Config::default())?;
    config.check()?;
    if !config.transfer.source.is_empty() || !matches!(config.transfer.preset.as_str(), "" | "from-scratch") {
        return Err(Error::Usage(
            "`morec train` starts from scratch; `morec transfer` starts from a source run".into(),
        ));
    }
    let prepared = prepare(&mut config)?;
    if args.run.dry_run {
        let plan = experiment::plan_of(&config, None, prepared.counts())?;
        return if args.run.json { output::print_json(&plan) } else { output::print(&plan.table()) };
    }
    let items = config.item.kind.name();
    let label = &match config.user.kind {
        UserKind::Sasrec => items.to_string(),
        other => format!("{items}-{}", format!("{other:?}").to_lowercase()),
    };
    let dir = args.run.dir(&config, label);
    let on_progress = encoding(label);
    let console = Console::new(&format!("[{label}]"), &config.train.metric);
    let result =
        experiment::execute(&config, &prepared, None, &dir, args.run.mode(), vec![Box::new(console)], &on_progress)?;
    if args.run.json {
        return output::print_json(&result);
    }
    let row = Row { name: label.clone(), test: result.test.clone(), run: Some(result) };
    let rows = [row];
    output::print(&comparison(&rows, &config.eval.ks))?;
    if !config.eval.sampled.is_empty() {
        output::print(&("\n".to_string() + &detail(&rows, &config.eval.ks)))?;
    }
    output::print(&format!("model: {}\n", dir.join("best").display()))
}
