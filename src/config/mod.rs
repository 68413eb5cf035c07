//! Experiment settings with documented defaults, TOML layers and `-s key=value` overrides.

mod adapter;
mod bounds;
mod cache;
mod cut_offs;
mod image;
mod item;
mod layers;
mod modality;
mod objective;
mod user;

pub use adapter::{ADAPTERS, AdapterConfig, AdapterMethod, Patch};
pub use cache::Cache;
pub use image::{BatchNormMode, Fusion, ImageConfig, ImagePooling};
pub use item::{ItemConfig, ItemKind, ProjectionActivation};
pub use layers::{first_difference, load, load_stored, to_toml};
pub use modality::{ByModality, EncoderSettings, Modality};
pub use objective::{Multiplicity, ObjectiveConfig, ObjectiveKind, Positions, Sampler, Similarity};
pub use user::{NormPosition, UserConfig, UserKind};

use crate::error::{Error, Result};
use crate::nn::Param;
use serde::{Deserialize, Serialize};

/// All settings of an experiment. Every field has a default; `config.toml` of a run holds all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the run folder below `runs/`; empty: derived from the command, data set and settings.
    pub name: String,
    /// Random seed of initial values, shuffling and dropout.
    pub seed: u64,
    /// Device: `cpu`, `cuda` or `metal` (the latter two need the feature of that name).
    pub device: String,
    /// Settings of data set and split.
    pub data: DataConfig,
    /// Settings of the item encoder.
    pub item: ItemConfig,
    /// Settings of the user encoder.
    pub user: UserConfig,
    /// Settings of adapters: small trainable modules in an otherwise frozen model.
    pub adapter: AdapterConfig,
    /// Settings of the training loss.
    pub objective: ObjectiveConfig,
    /// Settings of the optimiser and its schedule.
    pub train: TrainConfig,
    /// Settings of ranking and metrics.
    pub eval: EvalConfig,
    /// Settings of transfer: what is loaded from a source run, and what trains.
    pub transfer: TransferConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            seed: 42,
            device: "cpu".into(),
            data: DataConfig::default(),
            item: ItemConfig::default(),
            user: UserConfig::default(),
            adapter: AdapterConfig::default(),
            objective: ObjectiveConfig::default(),
            train: TrainConfig::default(),
            eval: EvalConfig::default(),
            transfer: TransferConfig::default(),
        }
    }
}

/// Settings of data set and split (section `data`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Data set folder, made by `morec data import`.
    pub path: String,
    /// Split into training, validation and test events.
    pub split: SplitKind,
    /// Minimum number of interactions per user; users with fewer are dropped before the split.
    pub min_user_items: usize,
    /// Temporal split: share of all events before the validation cut.
    pub train_share: f64,
    /// Temporal split: share of all events between the validation and the test cut.
    pub valid_share: f64,
    /// Use only the first n users, for quick trials; 0: all.
    pub limit_users: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self {
            path: String::new(),
            split: SplitKind::Morec,
            min_user_items: 5,
            train_share: 0.8,
            valid_share: 0.1,
            limit_users: 0,
        }
    }
}

/// Kinds of splits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// Leave-one-out on the last L+3 items per user (MoRec, NineRec). Items that occur in no such history are no
    /// candidates.
    #[default]
    Morec,
    /// Leave-one-out on whole histories: the last event is the test, the one before it the validation; all items are
    /// candidates.
    LeaveOneOut,
    /// One time cut for all users: no training event is later than a test event.
    Temporal,
}

/// Settings of the optimiser (section `train`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Batch size in users (in windows of their histories, where `windows` makes more than one per user).
    pub batch_size: usize,
    /// Number of batches whose gradients are averaged per optimiser step.
    pub accumulate: usize,
    /// Training windows of a history longer than L (splits leave-one-out, temporal): its `last` L events, or `all`
    /// events in windows of L (where only the last position is predicted: one window per event).
    pub windows: Windows,
    /// Limit on the number of items whose activations are held for the backward pass at once; 0: no limit. A batch with
    /// more items is encoded in two passes, with the same gradient, so that memory does not limit the batch size.
    pub encode_items: usize,
    /// Maximum number of epochs.
    pub epochs: usize,
    /// Learning rate of all parameters except pre-trained encoders.
    pub lr: f64,
    /// Learning rate of pre-trained encoders.
    pub encoder_lr: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Number of warm-up steps over which learning rates rise from 0.
    pub warmup_steps: usize,
    /// Schedule after the warm-up: `constant`, or `cosine` down to 0 at the last epoch.
    pub schedule: Schedule,
    /// Maximum norm of the whole gradient; 0: no clipping.
    pub clip: f64,
    /// Number of epochs between validations.
    pub eval_every: usize,
    /// Validation metric for model selection: `hr@K`, `ndcg@K`, `mrr@K`, `recall@K`, `map@K` with K among `eval.ks`.
    pub metric: String,
    /// Whether a file or the command line set `metric`; not a setting itself, never serialised.
    #[serde(skip)]
    pub metric_given: bool,
    /// Number of validations without improvement before training stops; 0: no early stopping.
    pub patience: usize,
    /// Number of steps between checkpoints within an epoch; 0: only at the end of each epoch (where there is always
    /// one).
    pub checkpoint_steps: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            batch_size: 64,
            accumulate: 1,
            windows: Windows::Last,
            encode_items: 0,
            epochs: 50,
            lr: 1e-3,
            encoder_lr: 1e-4,
            weight_decay: 0.01,
            warmup_steps: 0,
            schedule: Schedule::Constant,
            clip: 0.0,
            eval_every: 1,
            metric: "ndcg@10".into(),
            metric_given: false,
            patience: 5,
            checkpoint_steps: 500,
        }
    }
}

/// Training windows taken from a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Windows {
    /// The last window only (MoRec).
    Last,
    /// As many windows as needed to predict every event once per epoch.
    All,
}

/// Learning-rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// Constant learning rate.
    Constant,
    /// Half a cosine down to 0.
    Cosine,
}

/// Settings of ranking and metrics (section `eval`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Cut-offs K of metrics. Default cut-offs that are larger than the catalogue are left out with a note.
    pub ks: Vec<usize>,
    /// Whether a file or the command line set `ks`; not a setting itself, never serialised.
    #[serde(skip)]
    pub ks_given: bool,
    /// Tie policy: rank of the target among items of equal score.
    pub ties: Ties,
    /// Whether the items of the user's history are excluded from the candidates.
    pub mask_history: bool,
    /// Length K of recommendation lists whose coverage, popularity and diversity are measured; 0: not measured.
    pub lists: usize,
    /// Additional ranking among sampled candidates, for comparison with older papers: `uni100` (100 drawn uniformly),
    /// `pop100` (by popularity). Such metrics are called `hr@10[uni100]`, never `hr@10`.
    pub sampled: Vec<String>,
    /// Folder of sampled candidates, which are read if present, else drawn and written; empty: beside the data set.
    pub candidates: String,
    /// Megabytes for user states while ranking; more users are ranked in several parts, with the same ranks.
    pub memory_mb: usize,
}

impl Default for EvalConfig {
    fn default() -> Self {
        Self {
            ks: vec![5, 10, 20],
            ks_given: false,
            ties: Ties::Mean,
            mask_history: true,
            lists: 10,
            sampled: vec![],
            candidates: String::new(),
            memory_mb: 256,
        }
    }
}

/// Tie policies: rank of a target among items of equal score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// Mean of the metric over all orders of the tied items, so that constant scores give chance level.
    Mean,
    /// The target is ranked after all tied items.
    Pessimistic,
    /// The target is ranked before all tied items.
    Optimistic,
    /// Tied items are ordered by catalogue index, smaller first.
    ById,
}

/// Settings of transfer (section `transfer`).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferConfig {
    /// Folder of the source run or checkpoint.
    pub source: String,
    /// Preset: `full`, `frozen`, `head`, `user-only`, `item-only`, `top-layers=K`, `zero-shot`, `from-scratch`,
    /// `bitfit`, `norms`, or the name of an adapter method (`houlsby`, `pfeiffer`, `parallel`, `lora`, …); empty: no
    /// preset.
    pub preset: String,
    /// Ordered rules, applied after the preset's; later rules win.
    pub rules: Vec<Rule>,
}

/// One rule of a transfer plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Pattern of parameter names, with the wildcards `*` and `?`.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Actions, separated by commas: `load` | `reset` | `pretrained`, `train` | `freeze`, `lr=1e-4`.
    #[serde(rename = "do")]
    pub action: String,
}

impl Config {
    /// Refuses impossible values with an error that names the field.
    pub fn check(&self) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(key, m));
        self.user.check()?;
        self.adapter.check()?;
        self.objective.check(self.user.kind)?;
        let positive = [
            ("train.batch_size", self.train.batch_size),
            ("train.accumulate", self.train.accumulate),
            ("train.eval_every", self.train.eval_every),
        ];
        for (key, v) in positive {
            if v == 0 {
                return bad(key, "has to be at least 1".into());
            }
        }
        if !self.item.dropout.is_finite() || self.item.dropout >= 1.0 {
            return bad("item.dropout", format!("{} is no probability below 1", self.item.dropout));
        }
        for (key, v) in [
            ("train.lr", self.train.lr),
            ("train.encoder_lr", self.train.encoder_lr),
            ("train.weight_decay", self.train.weight_decay),
            ("train.clip", self.train.clip),
        ] {
            if !v.is_finite() || v < 0.0 {
                return bad(key, format!("{v} is not a finite number ≥ 0"));
            }
        }
        if !(0.0..=1.0).contains(&self.item.image_share) {
            return bad("item.image_share", format!("{} is no share between 0 and 1", self.item.image_share));
        }
        self.item.image.check(self.item.kind.has(Modality::Image))?;
        if self.item.kind.has(Modality::Text) {
            if self.item.max_tokens < 3 {
                return bad("item.max_tokens", "has to be at least 3: two special tokens and one of text".into());
            }
            if self.item.model.is_empty() {
                return bad(
                    "item.model",
                    "a text model needs a pre-trained encoder: a folder, a name or a hub id".into(),
                );
            }
        }
        if self.eval.ks.is_empty() || self.eval.ks.contains(&0) {
            return bad("eval.ks", "needs at least one cut-off, each at least 1".into());
        }
        let widest = self.eval.ks.iter().copied().max().unwrap_or(1);
        for name in &self.eval.sampled {
            if sampled_protocol(name)?.1 < widest {
                return bad(
                    "eval.sampled",
                    format!("`{name}`: among so few every target is within {widest} (eval.ks)"),
                );
            }
        }
        let sliding = self.objective.positions(self.user.kind) == Positions::Last;
        if self.train.windows == Windows::All && self.data.split == SplitKind::Morec && !sliding {
            let m = "`all` changes nothing with data.split = \"morec\", which keeps the last L+3 events; use leave-one-out or \
                     temporal";
            return bad("train.windows", m.into());
        }
        metric(&self.train.metric, &self.eval.ks)?;
        let (a, b) = (self.data.train_share, self.data.valid_share);
        if !(a > 0.0 && b > 0.0 && a + b < 1.0) {
            return bad(
                "data.train_share",
                format!("{a} and data.valid_share = {b} leave nothing to train, validate or test on"),
            );
        }
        Ok(())
    }
}

impl Config {
    /// Returns these settings with a transfer preset; the preset of an adapter method also sets `adapter.method`.
    pub fn with_preset(&self, preset: &str) -> Self {
        let mut c = self.clone();
        c.transfer.preset = preset.into();
        if let Some(method) = AdapterMethod::named(preset) {
            c.adapter.method = method;
        } else if preset == "from-scratch" {
            // Nothing is loaded from the source, so neither is its adapter.
            c.adapter.method = AdapterMethod::None;
        }
        c
    }
    /// Learning rate of a parameter: its own, else that of adapters, image encoder, pre-trained encoders, or
    /// `train.lr`.
    pub fn lr_of(&self, p: &Param) -> f64 {
        let image = &self.item.image;
        match p.lr() {
            Some(own) => own,
            None if p.is_adapter() && self.adapter.lr >= 0.0 => self.adapter.lr,
            None if p.is_encoder() && image.lr >= 0.0 && p.name().starts_with("item_encoder.image.") => image.lr,
            None if p.is_encoder() => self.train.encoder_lr,
            None => self.train.lr,
        }
    }
}

/// Parses a protocol name such as `uni100` into sampler and number of candidates.
pub fn sampled_protocol(name: &str) -> Result<(Sampler, usize)> {
    let kinds = [("uni", Sampler::Uniform), ("pop", Sampler::Popularity)];
    let parsed = kinds.iter().find_map(|(p, kind)| Some((*kind, name.strip_prefix(p)?.parse::<usize>().ok()?)));
    parsed.filter(|(_, n)| *n > 0).ok_or_else(|| {
        let m = format!("`{name}` is not uniN or popN (N candidates drawn uniformly, or by popularity)");
        Error::config("eval.sampled", m)
    })
}

/// Parses a metric name such as `ndcg@10` into metric and cut-off; the cut-off has to be among `ks`.
pub fn metric(name: &str, ks: &[usize]) -> Result<(String, usize)> {
    let known = ["hr", "ndcg", "mrr", "recall", "map"];
    let parsed = name.split_once('@').and_then(|(m, k)| Some((m.to_lowercase(), k.parse::<usize>().ok()?)));
    match parsed {
        Some((m, k)) if known.contains(&m.as_str()) && ks.contains(&k) => Ok((m, k)),
        Some((m, k)) if known.contains(&m.as_str()) => {
            Err(Error::config("train.metric", format!("cut-off {k} of `{name}` is not among eval.ks = {ks:?}")))
        }
        _ => Err(Error::config("train.metric", format!("`{name}` is not one of hr@K, ndcg@K, mrr@K, recall@K, map@K"))),
    }
}
