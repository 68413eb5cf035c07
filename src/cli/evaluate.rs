//! `morec evaluate`: rank the test (or validation) targets with trained models and baselines.

use super::console::encoding;
use super::output;
use super::results::{Row, baselines, comparison, detail};
use super::settings::Settings;
use crate::config::{Config, ItemKind};
use crate::error::{Error, Result};
use crate::eval::{EvalTask, evaluate, ranks_file};
use crate::experiment::{self, Prepared};
use crate::model::{ModelFolder, parse_device};
use crate::terminal;
use clap::{Args, ValueEnum};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rank held-out items with trained models and baselines
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// Runs or model folders; none: baselines only
    #[arg(value_name = "RUN")]
    runs: Vec<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    /// Which questions
    #[arg(long, value_enum, default_value_t = Part::Test)]
    part: Part,
    /// Add the rows of the methods without training: most and recent popular, Markov, item-kNN and, with item.model,
    /// text-kNN (always, when no run is given)
    #[arg(long)]
    baselines: bool,
    /// Also print coverage, popularity and diversity of the offers, and metrics by groups of targets and histories
    #[arg(long)]
    detail: bool,
    /// Write the ranks of every user to this Parquet file (one run only)
    #[arg(long, value_name = "FILE")]
    ranks: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Held-out part.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Part {
    Test,
    Valid,
}

/// Runs `morec evaluate`.
pub fn run(args: EvaluateArgs) -> Result<()> {
    if args.ranks.is_some() && args.runs.len() != 1 {
        return Err(Error::Usage("--ranks needs exactly one run".into()));
    }
    let models = args.runs.iter().map(|r| ModelFolder::open(r)).collect::<Result<Vec<_>>>()?;
    let mut base = models.first().map_or_else(Config::default, |m| m.config.clone());
    base.device = Config::default().device;
    let mut config = args.settings.resolve(&base)?;
    let (mut rows, mut notes) = (vec![], BTreeSet::new());
    if models.is_empty() || args.baselines {
        let mut ids = config.clone();
        if ids.item.model.is_empty() {
            ids.item.kind = ItemKind::Id; // only text-kNN needs texts, and an encoder
        }
        let prepared = open_part(&mut ids, args.part, &mut notes)?;
        config.eval.ks.clone_from(&ids.eval.ks);
        rows.extend(baselines(&ids, &prepared, part_name(args.part))?);
    }
    for (m, path) in models.iter().zip(&args.runs) {
        // Model settings come from the run; data and evaluation settings from the command.
        let mut own = Config {
            data: config.data.clone(),
            eval: config.eval.clone(),
            device: config.device.clone(),
            ..m.config.clone()
        };
        let prepared = open_part(&mut own, args.part, &mut notes)?;
        // The table has the cut-offs that every row has.
        config.eval.ks.retain(|k| own.eval.ks.contains(k));
        check_items(m, &prepared)?;
        warn_of_other_data(path, m, &prepared, &own);
        let model = m.build(&parse_device(&own.device)?)?;
        let features = model.features_of(&prepared.content())?;
        let cases = &prepared.split.test;
        let name = experiment::protocol(&own, part_name(args.part));
        let candidates = prepared.candidates(&own.eval, cases)?;
        let task = EvalTask { split: &prepared.split, cases, config: &own.eval, candidates: &candidates };
        let (test, ranked) = evaluate(&model, &features, &task, &name, &encoding(&name))?;
        if let Some(file) = &args.ranks {
            ranks_file::write(file, &prepared.data, &prepared.split, cases, &ranked.ranks)?;
        }
        rows.push(Row { name: path.display().to_string(), test, run: experiment::result_of(path) });
    }
    if args.json {
        return output::print_json(&rows);
    }
    output::print(&comparison(&rows, &config.eval.ks))?;
    if args.detail || !config.eval.sampled.is_empty() {
        output::print(&("\n".to_string() + &detail(&rows, &config.eval.ks)))?;
    }
    Ok(())
}

fn part_name(part: Part) -> &'static str {
    match part {
        Part::Test => "test",
        Part::Valid => "validation",
    }
}

/// The data with the part to evaluate as its test part. A note on omitted default cut-offs is printed once for all
/// models.
fn open_part(config: &mut Config, part: Part, notes: &mut BTreeSet<String>) -> Result<Prepared> {
    let (mut prepared, note) = Prepared::fit_evaluation(config)?;
    if let Some(note) = note.filter(|n| notes.insert(n.clone())) {
        terminal::message(&format!("note: {note}"));
    }
    if matches!(part, Part::Valid) {
        prepared.split.test = prepared.split.valid.clone();
    }
    Ok(prepared)
}

/// Warns when the data set of a run has changed since training: its test cases may have been trained on.
fn warn_of_other_data(run: &Path, model: &ModelFolder, prepared: &Prepared, config: &Config) {
    let own_folder = config.data.path == model.config.data.path;
    if own_folder && experiment::data_digest(run).is_some_and(|d| d != prepared.data.digest) {
        terminal::message(&format!(
            "{}: `{}` holds other data now than when this run was trained on it; its test users may have been trained on",
            run.display(),
            config.data.path
        ));
    }
}

/// Refuses to evaluate an ID model on another catalogue than the one it was trained on.
pub(super) fn check_items(model: &ModelFolder, prepared: &Prepared) -> Result<()> {
    if model.users.as_ref().is_some_and(|ids| *ids != prepared.user_ids) {
        let m = "its user encoder knows the users of one data set by id, and this one's are others; such a model does not \
                 transfer: use user.user_id = false";
        return Err(Error::model(&model.dir, m));
    }
    match &model.items {
        Some(ids) if *ids != prepared.item_ids => Err(Error::model(
            &model.dir,
            format!(
                "an ID model of {} items: this data set's {} candidates are others, and ID tables do not transfer; \
                 train on it, or use a text model",
                ids.len(),
                prepared.item_ids.len()
            ),
        )),
        _ => Ok(()),
    }
}

/// The data set folder of a command, or the one the model was trained on.
pub(super) fn data_dir(given: Option<&PathBuf>, model: &ModelFolder) -> Result<PathBuf> {
    match given {
        Some(d) => Ok(d.clone()),
        None if Path::new(&model.config.data.path).exists() => Ok(PathBuf::from(&model.config.data.path)),
        None => Err(Error::Usage(format!(
            "--data DIR: the catalogue to recommend from (the training data `{}` is not here)",
            model.config.data.path
        ))),
    }
}
