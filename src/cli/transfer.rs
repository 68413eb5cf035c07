//! `morec transfer`: from a source run to a target data set, by one preset or several side by side.

use super::console::{Console, encoding};
use super::output;
use super::results::{Row, baselines, comparison, detail};
use super::settings::{Settings, run_dir};
use super::train::RunArgs;
use crate::config::{AdapterMethod, Config, EvalConfig, Rule, TransferConfig};
use crate::error::{Error, Result};
use crate::experiment::{self, Prepared};
use crate::model::ModelFolder;
use clap::Args;
use std::path::PathBuf;

/// Move a trained recommender to another domain
#[derive(Debug, Args)]
pub struct TransferArgs {
    /// The source run (or model folder)
    #[arg(long, value_name = "RUN")]
    source: PathBuf,
    /// What to take over and train; several, separated by commas, run one after the other and are compared:
    /// full, frozen, head, user-only, item-only, top-layers=K, zero-shot, from-scratch; by adapters: houlsby, pfeiffer,
    /// parallel, lora, bitfit (all biases), norms
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

/// Runs the verb.
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
    let prepared = Prepared::open(&config)?;
    let many = args.preset.len() > 1;
    let mut rows = vec![];
    let mut plans = vec![];
    // Every plan is resolved before the first one runs.
    for preset in &args.preset {
        let config = with_preset(&config, preset);
        plans.push((preset, experiment::plan_of(&config, Some(&source), prepared.counts())?));
    }
    if args.run.dry_run {
        return if args.run.json {
            output::print_json(&plans)
        } else {
            plans.iter().try_for_each(|(preset, plan)| output::print(&format!("preset {preset}\n{}", plan.table())))
        };
    }
    if args.baselines {
        rows.extend(baselines(&config, &prepared, "test")?);
    }
    for preset in &args.preset {
        let config = with_preset(&config, preset);
        let dir = match (&args.run.out, many) {
            (Some(o), true) => o.join(preset),
            (out, _) => run_dir(out.as_ref(), &config, preset),
        };
        let watch = encoding(preset);
        let console = Console::new(&format!("[{preset}]"), &config.train.metric);
        let mode = args.run.mode();
        let result =
            experiment::execute(&config, &prepared, Some(&source), &dir, mode, vec![Box::new(console)], &watch)?;
        rows.push(Row { name: preset.clone(), test: result.test.clone(), run: Some(result) });
    }
    if args.run.json {
        return output::print_json(&rows);
    }
    output::print(&comparison(&rows, &config.eval.ks))?;
    if config.eval.sampled.is_empty() {
        return Ok(());
    }
    output::print(&("\n".to_string() + &detail(&rows, &config.eval.ks)))
}

fn with_preset(config: &Config, preset: &str) -> Config {
    let mut c = config.clone();
    c.transfer.preset = preset.into();
    if let Some(method) = AdapterMethod::named(preset) {
        c.adapter.method = method;
    }
    c
}
