//! `morec transfer`: from a source run to a target data set, by one preset or several side by side.

use super::console::{Console, encoding};
use super::output;
use super::results::{Row, baselines, comparison, detail};
use super::settings::{Settings, prepare};
use super::train::RunArgs;
use crate::config::{Config, EvalConfig, Rule, TransferConfig};
use crate::error::{Error, Result};
use crate::experiment::{self, Prepared};
use crate::model::ModelFolder;
use crate::transfer::Plan;
use clap::Args;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Move a trained recommender to another domain
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The source run (or model folder)
    #[arg(long, value_name = "RUN")]
    source: PathBuf,
    /// Target data sets, separated by commas or repeated, one after the other; --data names a single one
    #[arg(short, long, value_name = "DIR", value_delimiter = ',')]
    target: Vec<PathBuf>,
    /// What to take over and train; several, separated by commas, run one after the other and are compared:
    /// full, frozen, head, user-only, item-only, top-layers=K, zero-shot, from-scratch; by adapters: houlsby, pfeiffer,
    /// parallel, compacter, lora, ia3, prompt, kadapter, side, peterrec, bitfit (all biases), norms
    #[arg(short, long, value_name = "NAME", default_value = "full", value_delimiter = ',')]
    preset: Vec<String>,
    /// A rule after the preset's, for example --rule 'user_encoder.*=load,freeze' (repeatable)
    #[arg(long, value_name = "GLOB=ACTIONS")]
    rule: Vec<String>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    run: RunArgs,
    /// Add the rows of the methods without training: most and recent popular, Markov, item-kNN, text-kNN
    #[arg(long)]
    baselines: bool,
}

/// One target: its settings, data, and a plan for each preset.
struct Target {
    name: String,
    config: Config,
    prepared: Prepared,
    plans: Vec<(String, Plan)>,
}

/// Runs `morec transfer`.
pub fn run(args: TransferArgs) -> Result<()> {
    let source = ModelFolder::open(&args.source)?;
    // The model's shape and training settings come from the source; data, evaluation and transfer are the target's.
    let base = Config {
        name: String::new(),
        data: crate::config::DataConfig { path: String::new(), limit_users: 0, ..source.config.data.clone() },
        eval: EvalConfig::default(),
        transfer: TransferConfig { source: args.source.display().to_string(), ..Default::default() },
        ..source.config.clone()
    };
    let mut config = args.settings.resolve(&base)?;
    for r in &args.rule {
        let (pattern, action) =
            r.split_once('=').ok_or_else(|| Error::Usage(format!("--rule {r}: expected GLOB=ACTIONS")))?;
        config.transfer.rules.push(Rule { pattern: pattern.into(), action: action.into() });
    }
    config.check()?;
    // Every plan on every target is resolved before the first one runs.
    let targets = targets(&args, &config, &source)?;
    let several = targets.len() > 1;
    let lead = |t: &Target| if several { format!("{}\n", t.name) } else { String::new() };
    if args.run.dry_run {
        if args.run.json {
            let all: BTreeMap<&str, _> = targets.iter().map(|t| (t.name.as_str(), &t.plans)).collect();
            return if several { output::print_json(&all) } else { output::print_json(&targets[0].plans) };
        }
        let text = |t: &Target| -> String {
            lead(t) + &t.plans.iter().map(|(p, plan)| format!("preset {p}\n{}", plan.table())).collect::<String>()
        };
        return targets.iter().try_for_each(|t| output::print(&text(t)));
    }
    let mut all = vec![];
    for target in &targets {
        let rows = one(&args, target, &source, several)?;
        if !args.run.json {
            let ks = &target.config.eval.ks;
            let mut text = lead(target) + &comparison(&rows, ks);
            if !target.config.eval.sampled.is_empty() {
                text += &("\n".to_string() + &detail(&rows, ks));
            }
            output::print(&(text + if several { "\n" } else { "" }))?;
        }
        all.push((target.name.clone(), rows));
    }
    match (args.run.json, several) {
        (false, _) => Ok(()),
        (true, false) => output::print_json(&all[0].1),
        (true, true) => output::print_json(&all.into_iter().collect::<BTreeMap<_, _>>()),
    }
}

/// The targets: `--target`s, or the one of the settings.
fn targets(args: &TransferArgs, config: &Config, source: &ModelFolder) -> Result<Vec<Target>> {
    if !args.target.is_empty() && args.settings.data.is_some() && !args.settings.data_is_from_environment() {
        return Err(Error::Usage("--data names one target, --target several; give one of the two".into()));
    }
    let configs: Vec<Config> = if args.target.is_empty() {
        vec![config.clone()]
    } else {
        let of = |t: &PathBuf| {
            let mut c = config.clone();
            c.data.path = t.display().to_string();
            c
        };
        args.target.iter().map(of).collect()
    };
    let mut out: Vec<Target> = vec![];
    for mut config in configs {
        let prepared = prepare(&mut config)?;
        let name = Path::new(&config.data.path).file_name().map(|n| n.to_string_lossy().into_owned());
        let name = name.unwrap_or_else(|| prepared.data.name.clone());
        if out.iter().any(|t| t.name == name) {
            return Err(Error::Usage(format!("--target: two data sets are called `{name}`")));
        }
        let plan = |preset: &String| -> Result<(String, Plan)> {
            let c = config.with_preset(preset);
            Ok((preset.clone(), experiment::plan_of(&c, Some(source), prepared.counts())?))
        };
        let plans = args.preset.iter().map(plan).collect::<Result<_>>()?;
        out.push(Target { name, config, prepared, plans });
    }
    Ok(out)
}

/// All presets on one target.
fn one(args: &TransferArgs, target: &Target, source: &ModelFolder, several: bool) -> Result<Vec<Row>> {
    let Target { name, config, prepared, .. } = target;
    let mut rows = vec![];
    if args.baselines {
        rows.extend(baselines(config, prepared, "test")?);
    }
    for preset in &args.preset {
        let config = config.with_preset(preset);
        let dir = match (&args.run.out, several, args.preset.len() > 1) {
            (Some(o), true, _) => o.join(name).join(preset),
            (Some(o), false, true) => o.join(preset),
            (None, true, _) if !config.name.is_empty() => args.run.default_dir(&config, preset).join(name).join(preset),
            (None, false, true) if !config.name.is_empty() => args.run.default_dir(&config, preset).join(preset),
            _ => args.run.dir(&config, preset),
        };
        let label = if several { format!("{name} {preset}") } else { preset.clone() };
        let on_progress = encoding(&label);
        let console = Console::new(&format!("[{label}]"), &config.train.metric);
        let mode = args.run.mode();
        let result =
            experiment::execute(&config, prepared, Some(source), &dir, mode, vec![Box::new(console)], &on_progress)?;
        rows.push(Row { name: preset.clone(), test: result.test.clone(), run: Some(result) });
    }
    Ok(rows)
}
