//! Knowledge distillation: a large encoder teaches a small one, which is written as a Hugging Face folder. A text encoder
//! teaches one of its family on a corpus of titles ([`TextDistillation`]), a vision encoder a ViT on the pictures of data
//! sets ([`ImageDistillation`]); [`distill`] runs either.
//!
//! The student learns the teacher's pooled vectors (Reimers & Gurevych 2020 do the same across languages), reduced to
//! the student's width by the subspace that keeps their inner products best. Text: optionally its hidden states as well
//! (TinyBERT, Jiao et al. 2020); the student's vocabulary is the part of the teacher's that the corpus uses, and its token
//! vectors start from the teacher's vector of each token alone (as in Model2Vec).

mod card;
mod holdout;
mod image;
mod learner;
mod loss;
pub mod neighbours;
mod progress;
mod run;
pub mod subspace;
mod task;
mod text;

pub use image::{ImageCorpus, ImageDistillation};
pub use progress::Progress;
pub use run::distill;
pub use task::{BatchLoss, Distillation, HeldOut, Student, TaskInfo};
pub use text::{TextCorpus, TextDistillation, corpus, vocab};

use crate::error::{Error, Result};
use crate::nn::ops::Pooling;
use crate::nn::weights::Precision;
use serde::{Deserialize, Serialize};

/// Shape of the student and how it learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistillConfig {
    /// Name of the student, for its card.
    pub name: String,
    /// The teacher, as the user named it.
    pub teacher: String,
    /// How both pool.
    pub pooling: Pooling,
    /// Tokens after which texts are cut.
    pub max_tokens: usize,
    /// Whether texts are lower-cased first.
    pub lower_case: bool,
    /// Width.
    pub hidden: usize,
    /// Blocks.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width inside the feed-forward part.
    pub intermediate: usize,
    /// Tokens kept of the vocabulary; 0: all.
    pub vocab: usize,
    /// Pictures: pixels a side.
    #[serde(default)]
    pub side: usize,
    /// Pictures: side of a patch.
    #[serde(default)]
    pub patch: usize,
    /// Passes over the corpus.
    pub epochs: usize,
    /// Samples (texts, views of pictures) a step.
    pub batch_size: usize,
    /// Peak learning rate; warm-up over the first twentieth, then cosine.
    pub lr: f64,
    /// AdamW's.
    pub weight_decay: f64,
    /// Weight of the loss on hidden states; 0: not computed.
    pub hidden_weight: f64,
    /// Random parts of each text or picture that are learned from, too.
    pub crops: usize,
    /// Share of texts or pictures held out for evaluation.
    pub held_out: f64,
    /// Seed of everything random.
    pub seed: u64,
    /// Write F32 instead of F16.
    pub full_precision: bool,
    /// Steps between checkpoints.
    pub checkpoint_steps: usize,
}

impl Default for DistillConfig {
    fn default() -> Self {
        Self {
            name: "student".into(),
            teacher: String::new(),
            pooling: Pooling::Mean,
            max_tokens: 48,
            lower_case: true,
            hidden: 192,
            layers: 3,
            heads: 6,
            intermediate: 768,
            vocab: 10_000,
            side: 112,
            patch: 16,
            epochs: 20,
            batch_size: 128,
            lr: 1e-3,
            weight_decay: 0.01,
            hidden_weight: 0.0,
            crops: 1,
            held_out: 0.05,
            seed: 42,
            full_precision: false,
            checkpoint_steps: 500,
        }
    }
}

impl DistillConfig {
    /// Refuses what cannot work, by name.
    pub fn check(&self) -> Result<()> {
        let bad = |flag: &str, why: String| Err(Error::Usage(format!("--{flag}: {why}")));
        for (flag, n) in [
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("intermediate", self.intermediate),
            ("epochs", self.epochs),
            ("batch-size", self.batch_size),
        ] {
            if n == 0 {
                return bad(flag, "has to be at least 1".into());
            }
        }
        if self.patch == 0 || self.side < self.patch {
            return bad("patch", format!("{} is not between 1 and --side {}", self.patch, self.side));
        }
        if self.max_tokens < 3 {
            return bad("max-tokens", "has to be at least 3: two special tokens and one of the text".into());
        }
        if !self.hidden.is_multiple_of(self.heads) {
            return bad("heads", format!("{} does not divide --hidden {}", self.heads, self.hidden));
        }
        for (flag, x, limit) in [
            ("lr", self.lr, 1.0),
            ("weight-decay", self.weight_decay, 1.0),
            ("hidden-weight", self.hidden_weight, 1e3),
            ("held-out", self.held_out, 0.9),
        ] {
            if !(0.0..=limit).contains(&x) {
                return bad(flag, format!("{x} is not between 0 and {limit}"));
            }
        }
        Ok(())
    }
    pub(crate) fn precision(&self) -> Precision {
        if self.full_precision { Precision::F32 } else { Precision::F16 }
    }
}

/// What a distillation achieved.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DistillReport {
    /// Folder of the student.
    pub dir: String,
    /// Parameters of the student.
    pub parameters: usize,
    /// Size of its weights file.
    pub bytes: u64,
    /// Parameters of the teacher.
    pub teacher_parameters: usize,
    /// Rows of its vocabulary; 0 for pictures.
    pub vocab: usize,
    /// Share of the corpus's tokens that its vocabulary keeps; 0 for pictures.
    pub coverage: f64,
    /// Training samples: texts or views of pictures, random parts included.
    pub texts: usize,
    /// Held-out texts or pictures.
    pub held_out: usize,
    /// Mean cosine between student and reduced teacher on the held-out samples.
    pub cosine: f64,
    /// Share of the teacher's ten nearest held-out neighbours that are the student's, as exported.
    pub recall_at_10: f64,
    /// The same for the teacher reduced to the student's width: the most this width allows.
    pub recall_at_10_limit: f64,
    /// Name and recall@10 of other encoders on the same samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(String, f64)>,
    /// Steps taken.
    pub steps: u64,
    /// Mean loss of the last epoch.
    pub loss: f64,
    /// Seconds, this session only.
    pub seconds: f64,
    /// Peak memory in bytes, this session only.
    pub peak_memory: Option<u64>,
}
