//! Settings of the training loss.

use super::UserKind;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the training loss (section `objective`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// Kind of loss: `in-batch` (softmax over the batch's distinct items), `full` (softmax over the catalogue),
    /// `sampled` (softmax over k sampled negatives), `bce`, `gbce` or `bpr`.
    pub kind: ObjectiveKind,
    /// Prediction targets: `all` (the next item at every position), `last` (the next item at the last position; CPC),
    /// `masked` (masked items); `auto`: masked for bert4rec, else all.
    pub positions: Positions,
    /// Share of a sequence's items that are masked (targets `masked`).
    pub mask_share: f64,
    /// Whether log popularity (in-batch) or the log sampling probability (sampled) is subtracted from the logits.
    pub debias: bool,
    /// Weight as a negative of an item that occurs m times in the batch: `slots` = m, `once` = 1 (in-batch).
    pub multiplicity: Multiplicity,
    /// Similarity of a user state and an item, in training and ranking: `dot` or `cosine`.
    pub similarity: Similarity,
    /// Temperature that divides scores in training; 0: 1 for dot, 0.07 for cosine.
    pub temperature: f64,
    /// Number k of negatives per prediction (sampled, bce, gbce, bpr).
    pub negatives: usize,
    /// Distribution of negatives: `uniform`, `popularity` or `in-batch`; the user's own items are never drawn.
    pub sampler: Sampler,
    /// Calibration t of gbce: 0 equals bce, 1 removes the overconfidence caused by few negatives.
    pub calibration: f64,
}

impl Default for ObjectiveConfig {
    fn default() -> Self {
        Self {
            kind: ObjectiveKind::InBatch,
            positions: Positions::Auto,
            mask_share: 0.2,
            debias: true,
            multiplicity: Multiplicity::Slots,
            similarity: Similarity::Dot,
            temperature: 0.0,
            negatives: 1,
            sampler: Sampler::Uniform,
            calibration: 0.75,
        }
    }
}

/// Kinds of losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// In-batch debiased softmax (Yuan et al. 2023).
    InBatch,
    /// Softmax over the whole catalogue.
    Full,
    /// Softmax over the target and sampled negatives, corrected by sampling probability (Jean et al. 2015).
    Sampled,
    /// Binary cross-entropy of the target and sampled negatives.
    Bce,
    /// Binary cross-entropy with the target's probability raised to a power (gSASRec; Petrov & Macdonald 2023).
    Gbce,
    /// Bayesian personalised ranking (Rendle et al. 2009).
    Bpr,
}

/// Prediction targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// Chosen by the kind of user encoder.
    Auto,
    /// The next item after each event of the history.
    All,
    /// The last item of the history only.
    Last,
    /// Masked items.
    Masked,
}

/// Weight of a negative that occurs more than once in the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiplicity {
    /// One softmax column per occurrence, as in the reference.
    Slots,
    /// One softmax column per distinct item.
    Once,
}

/// Similarity of a user state and an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Inner product.
    Dot,
    /// Cosine: inner product of vectors scaled to length 1.
    Cosine,
}

/// Distributions of negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Uniform over all candidates.
    Uniform,
    /// Proportional to the number of training events.
    Popularity,
    /// Events of the same batch, which need no further encoding. Where the batch has only the user's own items, the
    /// catalogue.
    InBatch,
}

impl ObjectiveConfig {
    /// Prediction targets, with `auto` resolved.
    pub fn positions(&self, user: UserKind) -> Positions {
        match (self.positions, user) {
            (Positions::Auto, UserKind::Bert4rec) => Positions::Masked,
            (Positions::Auto, _) => Positions::All,
            (given, _) => given,
        }
    }
    /// Temperature that divides scores in training.
    pub fn temperature(&self) -> f64 {
        match (self.temperature, self.similarity) {
            (0.0, Similarity::Dot) => 1.0,
            (0.0, Similarity::Cosine) => 0.07,
            (t, _) => t,
        }
    }
    /// Whether the loss uses sampled negatives.
    pub fn draws(&self) -> bool {
        !matches!(self.kind, ObjectiveKind::InBatch | ObjectiveKind::Full)
    }
    /// Refuses impossible values with an error that names the field.
    pub(super) fn check(&self, user: UserKind) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(key, m));
        match (self.positions, user) {
            (Positions::All, UserKind::Bert4rec) => {
                let m = "bert4rec sees what comes next; it learns from `masked` (or `last`, hidden too) items";
                return bad("objective.positions", m.into());
            }
            (Positions::Masked, k) if k != UserKind::Bert4rec => {
                let m = "hidden items are for bert4rec; the other encoders see the past only: use `all` or `last`";
                return bad("objective.positions", m.into());
            }
            _ => {}
        }
        if !(self.mask_share > 0.0 && self.mask_share <= 1.0) {
            return bad("objective.mask_share", format!("{} is no share above 0, at most 1", self.mask_share));
        }
        if !self.temperature.is_finite() || self.temperature < 0.0 {
            return bad("objective.temperature", format!("{} is not a finite number ≥ 0", self.temperature));
        }
        if self.draws() && self.negatives == 0 {
            return bad("objective.negatives", "has to be at least 1".into());
        }
        if !(0.0..=1.0).contains(&self.calibration) {
            return bad("objective.calibration", format!("{} is not between 0 and 1", self.calibration));
        }
        Ok(())
    }
    /// Refuses settings that a catalogue of `items` candidates is too small for.
    pub fn check_catalogue(&self, items: usize) -> Result<()> {
        if self.draws() && self.negatives >= items {
            let m = format!("{} is too many for a catalogue of {items} items; lower it", self.negatives);
            return Err(Error::config("objective.negatives", m));
        }
        Ok(())
    }
}
