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

/// A whole experiment. Every field has a default; `config.toml` of a run holds all of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of the run's folder below `runs/`; empty: made from the command, data set and settings.
    pub name: String,
    /// Fixes initial values, shuffling and dropout.
    pub seed: u64,
    /// `cpu`, `cuda` or `metal` (the latter two need the feature of that name).
    pub device: String,
    /// Data set and split.
    pub data: DataConfig,
    /// The item encoder.
    pub item: ItemConfig,
    /// The user encoder.
    pub user: UserConfig,
    /// Adapters: small trainable parts of an otherwise frozen model.
    pub adapter: AdapterConfig,
    /// The training loss.
    pub objective: ObjectiveConfig,
    /// The optimiser and its schedule.
    pub train: TrainConfig,
    /// Ranking and metrics.
    pub eval: EvalConfig,
    /// What is loaded from a source run, and what trains.
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

/// Data set folder and split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// A folder made by `morec data import`.
    pub path: String,
    /// Which events train, validate and test.
    pub split: SplitKind,
    /// Users with fewer interactions are dropped (before the split).
    pub min_user_items: usize,
    /// Temporal split: share of all events before the validation cut.
    pub train_share: f64,
    /// Temporal split: share of all events between the validation and the test cut.
    pub valid_share: f64,
    /// Only the first n users (0: all), for quick trials.
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

/// How events are divided.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitKind {
    /// Keep the last L+3 items a user, then leave one out twice (MoRec, NineRec). Items outside are no candidates.
    #[default]
    Morec,
    /// Leave-one-out on whole histories: test = last, validation = second last, the catalogue whole.
    LeaveOneOut,
    /// One cut in time for everybody: nothing is trained on that happened after what is tested.
    Temporal,
}

/// The optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Users a batch (windows of their histories, where `windows` makes more than one).
    pub batch_size: usize,
    /// Batches whose gradients are averaged before a step.
    pub accumulate: usize,
    /// What is learned of a training history longer than L (splits leave-one-out, temporal): its `last` L events, or `all` of
    /// them, in windows of L (where only the last position is predicted: one window an event).
    pub windows: Windows,
    /// Most items whose encoding is held for the backward pass at once; a batch with more is encoded in two passes, with
    /// the same gradient, so that memory does not bound its size. 0: no limit.
    pub encode_items: usize,
    /// Most epochs.
    pub epochs: usize,
    /// Learning rate of everything but pre-trained encoders.
    pub lr: f64,
    /// Learning rate of pre-trained encoders.
    pub encoder_lr: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Steps over which the rates rise from 0.
    pub warmup_steps: usize,
    /// After the warm-up: `constant`, or `cosine` down to 0 at the last epoch.
    pub schedule: Schedule,
    /// Largest norm of the whole gradient; 0: not clipped.
    pub clip: f64,
    /// Epochs between validations.
    pub eval_every: usize,
    /// Validation metric that decides: `hr@K`, `ndcg@K`, `mrr@K`, `recall@K`, `map@K` with K among `eval.ks`.
    pub metric: String,
    /// Whether a file or the command line named `metric`; no setting, and in no file.
    #[serde(skip)]
    pub metric_given: bool,
    /// Validations without improvement before stopping; 0: never stop early.
    pub patience: usize,
    /// Steps between checkpoints inside an epoch (each epoch's end has one, too); 0: only there.
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

/// Which windows of a training history are learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Windows {
    /// The last one (MoRec).
    Last,
    /// As many as it takes to predict every event once an epoch.
    All,
}

/// Learning-rate schedule after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// No change.
    Constant,
    /// Half a cosine to 0.
    Cosine,
}

/// Ranking and metrics.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Cut-offs K. Defaults that are larger than the catalogue are left out with a note.
    pub ks: Vec<usize>,
    /// Whether a file or the command line named `ks`; no setting, and in no file.
    #[serde(skip)]
    pub ks_given: bool,
    /// What happens to items that score the same as the target.
    pub ties: Ties,
    /// Items of the user's history are no candidates.
    pub mask_history: bool,
    /// Also measure the lists of K offers as a whole: coverage, popularity, diversity; 0: not.
    pub lists: usize,
    /// Also rank among drawn candidates, for comparison with older papers: `uni100` (100 drawn uniformly), `pop100` (by
    /// popularity). Such numbers are called `hr@10[uni100]`, never `hr@10`.
    pub sampled: Vec<String>,
    /// Folder of the drawn candidates, read if they are there, else written; empty: beside the data set.
    pub candidates: String,
    /// Megabytes for users' states while ranking; with more users they come in parts, with the same ranks.
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

/// Rank of a target among items of equal score.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ties {
    /// The metric's mean over all orders of the tied items: constant scores score at chance.
    Mean,
    /// Behind all of them.
    Pessimistic,
    /// Before all of them.
    Optimistic,
    /// By catalogue position, the smaller first.
    ById,
}

/// What to take over.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransferConfig {
    /// The source run (or checkpoint) folder.
    pub source: String,
    /// `full`, `frozen`, `head`, `user-only`, `item-only`, `top-layers=K`, `zero-shot`, `from-scratch`, or an adapter's:
    /// `houlsby`, `pfeiffer`, `parallel`, `lora`, `bitfit`, `norms`; empty: none.
    pub preset: String,
    /// Ordered rules after the preset's; later ones win.
    pub rules: Vec<Rule>,
}

/// One rule of a transfer plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Parameter names, `*` and `?` as wildcards.
    #[serde(rename = "match")]
    pub pattern: String,
    /// Comma-separated: `load` | `reset` | `pretrained`, `train` | `freeze`, `lr=1e-4`.
    #[serde(rename = "do")]
    pub action: String,
}

impl Config {
    /// Refuses impossible values, naming the field, before any work.
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
    /// These settings under a transfer preset; an adapter's preset also sets `adapter.method`.
    pub fn with_preset(&self, preset: &str) -> Self {
        let mut c = self.clone();
        c.transfer.preset = preset.into();
        if let Some(method) = AdapterMethod::named(preset) {
            c.adapter.method = method;
        } else if preset == "from-scratch" {
            // Nothing of the source is loaded, so an adapter that it had is not either.
            c.adapter.method = AdapterMethod::None;
        }
        c
    }
    /// Learning rate of a parameter: its own, that of adapters, of the image encoder, of pre-trained encoders, or of all.
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

/// Splits `uni100` into how candidates are drawn and how many.
pub fn sampled_protocol(name: &str) -> Result<(Sampler, usize)> {
    let kinds = [("uni", Sampler::Uniform), ("pop", Sampler::Popularity)];
    let parsed = kinds.iter().find_map(|(p, kind)| Some((*kind, name.strip_prefix(p)?.parse::<usize>().ok()?)));
    parsed.filter(|(_, n)| *n > 0).ok_or_else(|| {
        let m = format!("`{name}` is not uniN or popN (N candidates drawn uniformly, or by popularity)");
        Error::config("eval.sampled", m)
    })
}

/// Splits `ndcg@10` into its name and cut-off, which has to be among `ks`.
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
