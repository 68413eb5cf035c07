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

/// Settings of a distillation: sizes of the student, samples, optimiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DistillConfig {
    /// Name of the student, for its card.
    pub name: String,
    /// The teacher, as the user named it.
    pub teacher: String,
    /// Pooling of token vectors, in teacher and student.
    pub pooling: Pooling,
    /// Maximum number of tokens per text, special tokens included.
    pub max_tokens: usize,
    /// Whether texts are lower-cased before tokenisation.
    pub lower_case: bool,
    /// Hidden width of the student.
    pub hidden: usize,
    /// Number of transformer blocks of the student.
    pub layers: usize,
    /// Number of attention heads of the student.
    pub heads: usize,
    /// Inner width of the student's feed-forward layers.
    pub intermediate: usize,
    /// Text: tokens of the teacher's vocabulary that the student keeps; 0: all.
    pub vocab: usize,
    /// Image: side of the student's input in pixels.
    #[serde(default)]
    pub side: usize,
    /// Image: side of a ViT patch in pixels.
    #[serde(default)]
    pub patch: usize,
    /// Number of epochs over the corpus.
    pub epochs: usize,
    /// Samples (texts, views of images) per step.
    pub batch_size: usize,
    /// Peak learning rate; warm-up over the first twentieth, then cosine.
    pub lr: f64,
    /// AdamW's decoupled weight decay.
    pub weight_decay: f64,
    /// Weight of the loss on hidden states; 0: not computed.
    pub hidden_weight: f64,
    /// Random crops of each text or image that are added to the training samples.
    pub crops: usize,
    /// Share of texts or pictures held out for evaluation.
    pub held_out: f64,
    /// Seed of hold-out, crops, initialisation and shuffling.
    pub seed: u64,
    /// Whether the student's weights are written as F32 instead of F16.
    pub full_precision: bool,
    /// Optimiser steps between checkpoints.
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
    /// Refuses impossible values, naming the setting.
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

/// Result of a distillation.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct DistillReport {
    /// Folder of the exported student.
    pub dir: String,
    /// Number of parameters of the student.
    pub parameters: usize,
    /// Bytes of the student's weight file.
    pub bytes: u64,
    /// Number of parameters of the teacher.
    pub teacher_parameters: usize,
    /// Size of the student's vocabulary; 0 for image students.
    pub vocab: usize,
    /// Share of the corpus's tokens that are in the student's vocabulary; 0 for image students.
    pub coverage: f64,
    /// Number of training samples (texts or views of images), crops included.
    pub texts: usize,
    /// Number of held-out texts or images.
    pub held_out: usize,
    /// Mean cosine between student and reduced teacher on the held-out samples.
    pub cosine: f64,
    /// Share of the teacher's ten nearest held-out neighbours that are the student's, as exported.
    pub recall_at_10: f64,
    /// Recall@10 of the teacher's vectors reduced to the student's width: the upper limit for this width.
    pub recall_at_10_limit: f64,
    /// Name and recall@10 of other encoders on the same samples.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub others: Vec<(String, f64)>,
    /// Number of optimiser steps taken.
    pub steps: u64,
    /// Mean training loss of the last epoch.
    pub loss: f64,
    /// Duration of this session in seconds.
    pub seconds: f64,
    /// Peak memory of this session in bytes.
    pub peak_memory: Option<u64>,
}
