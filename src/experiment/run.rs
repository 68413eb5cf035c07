//! Plan, build, train, test, write `result.json`, `ranks.parquet`, `manifest.json`.

use super::prepare::{Prepared, image_folder, text_folder};
use super::run_folder;
use super::usage;
use crate::baseline::{self, Baseline, ItemNeighbours, Markov, MostPopular, RecentPopular, TextNeighbours};
use crate::config::{AdapterMethod, Config, Fusion, ItemKind, UserKind};
use crate::error::{Error, Result};
use crate::eval::encode::Watch;
use crate::eval::{Asked, Report, encode, evaluate, ranks_file};
use crate::fsio;
use crate::item::text::{SentenceEncoder, TextFolder};
use crate::item::{Features, Tokens, prefix::Rounding};
use crate::model::{Base, Blueprint, Counts, ModelFolder, Recommender, pick_device};
use crate::nn::{Origin, Spec};
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
    /// Seconds from the start to the end of the first step, this session only.
    #[serde(default)]
    pub first_step_seconds: Option<f64>,
    /// Seconds of the whole, this session only.
    pub seconds: f64,
    /// Peak memory in bytes, this session only.
    pub peak_memory: Option<u64>,
    /// Bytes of the best model's folder: all of it, or an adapter's own.
    #[serde(default)]
    pub model_bytes: Option<u64>,
    /// What rounding did to what is kept of frozen text and image encoders, with item.cache = "f16".
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rounding: Vec<Rounding>,
    /// Why training ended.
    pub ended: String,
}

/// The blueprint of a configuration: with a source, its encoder's architecture and tokenizer; the pre-trained folder
/// itself only where some value is to come from it.
fn blueprint(config: &Config, source: Option<&ModelFolder>, counts: Counts) -> Result<Blueprint> {
    let wants_pretrained = matches!(config.transfer.preset.as_str(), "" | "from-scratch")
        || config.transfer.rules.iter().any(|r| r.action.contains("pretrained"));
    let folder = match source {
        Some(ModelFolder { text: Some(text), .. }) if !wants_pretrained => Some(text.clone()),
        _ => text_folder(config)?,
    };
    if let (Some(f), Some(t)) = (&folder, source.and_then(|s| s.text.as_ref()))
        && f.tokenizer_json != t.tokenizer_json
        && config.transfer.preset != "from-scratch"
    {
        let m = "its tokenizer differs from the source's: loaded token vectors would mean other words";
        return Err(Error::config("item.model", m));
    }
    let image = match source {
        Some(ModelFolder { image: Some(image), .. }) if !wants_pretrained => Some(image.clone()),
        _ => image_folder(config)?,
    };
    if let (Some(f), Some(t)) = (&image, source.and_then(|s| s.image.as_ref()))
        && config.transfer.preset != "from-scratch"
        && f.preprocess(&config.item.image) != t.preprocess(&config.item.image)
    {
        let m = "its pictures are prepared otherwise than the source's, whose values are loaded";
        return Err(Error::config("item.image.model", m));
    }
    Ok(Blueprint { config: config.clone(), counts, folder, image, base: None })
}

/// Resolves the plan of a configuration without building anything.
pub fn plan_of(config: &Config, source: Option<&ModelFolder>, counts: Counts) -> Result<Plan> {
    let specs = blueprint(config, source, counts)?.declare()?;
    resolve(config, &specs, source)
}

fn resolve(config: &Config, specs: &[Spec], source: Option<&ModelFolder>) -> Result<Plan> {
    let mut rules = vec![];
    if matches!(config.transfer.preset.as_str(), "" | "from-scratch" | "full") {
        let (text, image) = (config.item.train_layers, config.item.image.train_layers);
        for (place, n, setting) in [("text", text, "item.train_layers"), ("image", image, "item.image.train_layers")] {
            if let Ok(n) = usize::try_from(n) {
                rules.extend(crate::transfer::depth_rules(place, n, specs, setting)?);
            }
        }
    }
    rules.extend_from_slice(&config.transfer.rules);
    let plan = Plan::resolve(specs, source.map(|s| &s.weights), &config.transfer.preset, &rules)?;
    if let Some(s) = source {
        same_function(config, s, &plan)?;
    }
    Ok(plan)
}

/// Loaded values mean something only in the function they were trained in: settings that no shape shows have to be
/// the source's.
fn same_function(config: &Config, source: &ModelFolder, plan: &Plan) -> Result<()> {
    let loads = |prefix: &str| plan.rows.iter().any(|r| r.origin == Origin::Source && r.name.starts_with(prefix));
    let (a, b) = (config, &source.config);
    let (ai, bi) = (&a.item, &b.item);
    let item = loads("item_encoder.text");
    let image = loads("item_encoder.image");
    let (ap, bp) = (&ai.image, &bi.image);
    let both = loads("item_encoder") && a.item.kind.text() && a.item.kind.image();
    let user = loads("user_encoder");
    let transformer = user && matches!(a.user.kind, UserKind::Sasrec | UserKind::Bert4rec);
    let checks = [
        // Without training, everything is the source's, also where the user encoder has no parameters.
        ("user.kind", (user || plan.counts().0 == 0) && a.user.kind != b.user.kind),
        ("user.user_id", user && a.user.user_id != b.user.user_id),
        ("user.heads", transformer && a.user.heads != b.user.heads),
        ("user.layers", user && a.user.layers != b.user.layers),
        ("user.max_len", transformer && a.user.max_len != b.user.max_len),
        ("user.norm", transformer && a.user.norm != b.user.norm),
        ("user.dilations", user && a.user.kind == UserKind::Nextitnet && a.user.dilations != b.user.dilations),
        ("objective.similarity", plan.counts().0 == 0 && a.objective.similarity != b.objective.similarity),
        ("item.pooling", item && ai.pooling != bi.pooling),
        ("item.activation", item && ai.activation != bi.activation),
        ("item.max_tokens", item && ai.max_tokens != bi.max_tokens),
        ("item.lower_case", item && ai.lower_case != bi.lower_case),
        ("item.activation", image && ai.activation != bi.activation),
        ("item.image.pooling", image && ap.pooling != bp.pooling),
        ("item.image.side", image && ap.side != bp.side),
        ("adapter", has_adapters(b) && loads("") && (!same_adapter(a, b) || resets_adapters(plan))),
        ("item.fusion", both && b.item.kind == a.item.kind && ai.fusion != bi.fusion),
    ];
    match checks.iter().find(|c| c.1) {
        None => Ok(()),
        Some(("adapter", _)) => {
            let m = format!(
                "the source has an adapter of its own ({}), which has to be loaded as it is: full, frozen, head and zero-shot do; \
                 for another one make a model of lora or ia3 by `morec adapters merge`, or move from the base",
                b.adapter.method.name()
            );
            Err(Error::config("adapter", m))
        }
        Some((key, _)) => Err(Error::config(
            *key,
            "differs from the source run's, whose values are loaded; leave it out, or use the preset from-scratch",
        )),
    }
}

fn has_adapters(config: &Config) -> bool {
    config.adapter.method != AdapterMethod::None
}

/// The same parts in the same function; how fast they learn is another matter.
fn same_adapter(a: &Config, b: &Config) -> bool {
    a.adapter == crate::config::AdapterConfig { lr: a.adapter.lr, ..b.adapter.clone() }
}

/// Whether what adapters had learned is left behind, without which the rest means something else.
fn resets_adapters(plan: &Plan) -> bool {
    plan.rows.iter().any(|r| r.added && r.origin != Origin::Source)
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
    let blueprint = blueprint(config, source, prepared.counts())?;
    let specs = blueprint.declare()?;
    let plan = resolve(config, &specs, source)?;
    // Of an adapter only what it adds is kept.
    let only_added = plan.rows.iter().any(|r| r.added) && plan.rows.iter().all(|r| r.added || !r.train);
    let adapter = crate::transfer::adapts(&config.transfer.preset) || only_added;
    let blueprint = Blueprint { base: source.filter(|_| adapter).map(Base::of), ..blueprint };
    let candidates = prepared.candidates(&config.eval, &prepared.split.test)?;
    if plan.counts().0 > 0 {
        // Refuses what this catalogue cannot give.
        crate::objective::build(&config.objective, &prepared.split)?;
    }
    let inputs = run_folder::inputs(prepared, source, &blueprint)?;
    let needed = source.map_or(Ok(vec![]), |s| crate::model::base::chain(&s.dir))?;
    let (resume, _lock) = run_folder::start(dir, config, prepared, &inputs, mode, &needed)?;
    let model = blueprint.build(&device, &plan.actions(), source.map(|s| &s.weights))?;
    let mut features = model.watched(&prepared.content(), watch)?;
    modalities(config, &features)?;
    crate::eval::keep_prefix(&model, &mut features, prepared.data.dir.as_deref(), watch)?;

    let mut seen = Summary::new(started);
    let outcome = if plan.counts().0 == 0 {
        let staged = fsio::Staged::new(&dir.join("best"))?;
        crate::model::folder::save(staged.path(), &model, prepared.ids())?;
        staged.commit()?;
        train::Outcome { steps: 0, best: None, reason: "nothing trains".into() }
    } else {
        let job = Job {
            config,
            split: &prepared.split,
            features: &features,
            ids: prepared.ids(),
            model: &model,
            dir,
            resume,
        };
        let step = if resume { train::checkpoint::step_of(&dir.join("last"))? } else { 0 };
        let mut observers: Vec<Box<dyn Observer + '_>> = vec![
            Box::new(MetricsFile::open(&dir.join("metrics.jsonl"), step, 10)?),
            Box::new(TensorBoard::create(&dir.join("tensorboard"), step, 10)?),
            Box::new(&mut seen),
        ];
        observers.extend(more);
        train::run(&job, &mut observers)?
    };
    load_best(dir, &model)?;
    let (split, cases) = (&prepared.split, &prepared.split.test);
    let asked = Asked { split, cases, config: &config.eval, candidates: &candidates };
    let (test, ranked) = evaluate(&model, &features, &asked, &protocol(config, "test"), watch)?;
    ranks_file::write(&dir.join("ranks.parquet"), &prepared.data, split, cases, &ranked.ranks)?;
    let result = RunResult {
        name: dir.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default(),
        dir: dir.display().to_string(),
        test,
        best_valid: outcome.best.map(|b| (config.train.metric.clone(), b)),
        parameters: plan.counts(),
        epochs: seen.epochs.max(outcome.steps.checked_div(seen.epoch_steps).unwrap_or(0) as usize),
        steps: outcome.steps,
        epoch_seconds: (seen.epochs > 0).then(|| seen.seconds / seen.epochs as f64),
        first_step_seconds: seen.first_step,
        seconds: started.elapsed().as_secs_f64(),
        peak_memory: usage::peak_memory(),
        model_bytes: Some(crate::model::folder::size(&dir.join("best"))?),
        rounding: [&features.prefix, &features.image_prefix]
            .into_iter()
            .flatten()
            .filter_map(|p| p.rounding())
            .collect(),
        ended: outcome.reason,
    };
    let path = dir.join("result.json");
    let result = match earlier(&path) {
        // Nothing was trained now: what it cost is what it cost then.
        Some(old) if resume && seen.steps == 0 => {
            let (epoch_seconds, first_step_seconds) = (old.epoch_seconds, old.first_step_seconds);
            let (seconds, peak_memory) = (old.seconds, old.peak_memory);
            RunResult { epoch_seconds, first_step_seconds, seconds, peak_memory, ..result }
        }
        _ => result,
    };
    fsio::write_json(&path, &result)?;
    Ok(result)
}

/// Refuses a catalogue in which a modality that the settings name does not occur.
fn modalities(config: &Config, features: &Features) -> Result<()> {
    let any = |has: &dyn Fn(usize) -> bool| (0..features.count).any(has);
    let (kind, mixture) = (config.item.kind, config.item.kind == ItemKind::Both);
    let key = if mixture && config.item.fusion == Fusion::Mixture { "item.image_share" } else { "item.kind" };
    if kind.image() && !any(&|i| features.has_image(i)) {
        return Err(Error::config(
            key,
            "no candidate is left with a picture; use item.kind = \"text\", or another share",
        ));
    }
    if mixture && !any(&|i| features.has_text(i)) {
        return Err(Error::config(
            key,
            "no candidate is left with a text; use item.kind = \"image\", or another share",
        ));
    }
    Ok(())
}

/// What a finished run wrote down of itself; nothing for a bare model folder or an unfinished run.
pub fn result_of(dir: &Path) -> Option<RunResult> {
    earlier(&dir.join("result.json"))
}

/// The result a finished run already has.
fn earlier(path: &Path) -> Option<RunResult> {
    serde_json::from_str(&fsio::read_text(path).ok()?).ok()
}

/// Which events were ranked, in words.
pub fn protocol(config: &Config, part: &str) -> String {
    let split = serde_json::to_value(config.data.split).ok().and_then(|v| v.as_str().map(String::from));
    format!("{part} of split {}", split.unwrap_or_default())
}

/// Test rows of the baselines that need no training: those of interactions, and with a pre-trained text encoder text-kNN on
/// its frozen embeddings. `part` names the questions, which stand in the place of the test part.
pub fn baseline_rows(
    config: &Config,
    prepared: &Prepared,
    text: Option<&TextFolder>,
    part: &str,
) -> Result<Vec<(String, Report)>> {
    let split = &prepared.split;
    let mut all: Vec<Box<dyn Baseline>> = vec![Box::new(MostPopular::new(split))];
    if let Some(recent) = RecentPopular::new(split) {
        all.push(Box::new(recent));
    }
    all.push(Box::new(Markov::new(split)));
    all.push(Box::new(ItemNeighbours::new(split)));
    if let Some(folder) = text.filter(|f| f.weights.is_some()) {
        let encoder = SentenceEncoder::new(folder, config.item.pooling)?;
        let limit = config.item.max_tokens.min(folder.config.usable_positions());
        let tokens = Tokens::new(&folder.tokenizer, &prepared.texts, limit, config.item.lower_case)?;
        all.push(Box::new(TextNeighbours::new(encoder.encode(&tokens, &encode::silent)?, encoder.width())));
    }
    let candidates = prepared.candidates(&config.eval, &split.test)?;
    let asked = Asked { split, cases: &split.test, config: &config.eval, candidates: &candidates };
    all.iter()
        .map(|b| {
            let ranked = baseline::rank(b.as_ref(), &asked)?;
            Ok((b.name().to_string(), asked.report(&ranked, &protocol(config, part))))
        })
        .collect()
}

/// Puts the values of a run's best model into the one that was trained: as they stand on disk, without a second copy of the rest.
fn load_best(dir: &Path, model: &Recommender) -> Result<()> {
    let best = dir.join("best");
    crate::model::folder::check(&best)?;
    let values = crate::model::folder::values(&best, model)?;
    for p in model.params.iter().filter(|p| p.moves()) {
        if values.shape(p.name()) != Some(p.shape()) {
            let m = format!("`{}` is missing or has another shape; start the run again with --force", p.name());
            return Err(Error::model(values.path(), m));
        }
        p.set(&values.tensor(p.name(), &model.device)?)?;
    }
    Ok(())
}

/// Adds up epochs as they pass.
struct Summary {
    started: Instant,
    first_step: Option<f64>,
    epochs: usize,
    seconds: f64,
    epoch_steps: u64,
    steps: u64,
}

impl Summary {
    fn new(started: Instant) -> Self {
        Self { started, first_step: None, epochs: 0, seconds: 0.0, epoch_steps: 0, steps: 0 }
    }
}

impl Observer for &mut Summary {
    fn on(&mut self, event: &Event) -> Result<()> {
        match event {
            Event::Start { epoch_steps, .. } => self.epoch_steps = *epoch_steps,
            Event::Validation { epoch_seconds, .. } => {
                self.epochs += 1;
                self.seconds += epoch_seconds;
            }
            Event::Step { .. } => {
                self.steps += 1;
                self.first_step.get_or_insert(self.started.elapsed().as_secs_f64());
            }
            Event::End { .. } => {}
        }
        Ok(())
    }
}
