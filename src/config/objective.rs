//! Settings of the training loss.

use super::UserKind;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ObjectiveConfig {
    /// `in-batch` (softmax over the batch's distinct items), `full` (over the catalogue), `sampled` (softmax over k drawn
    /// negatives), `bce`, `gbce` or `bpr`.
    pub kind: ObjectiveKind,
    /// What is predicted: `all` (the next item at every position), `last` (at the last one only; CPC), `masked` (hidden
    /// items); `auto`: masked for bert4rec, else all.
    pub positions: Positions,
    /// Share of a sequence's items that are hidden, where hidden items are predicted.
    pub mask_share: f64,
    /// Subtract log popularity (in-batch), or the log probability of being drawn (sampled), from the logits.
    pub debias: bool,
    /// How often an item that stands m times in the batch counts as a negative: `slots` = m times, `once` (in-batch).
    pub multiplicity: Multiplicity,
    /// Score of a state and an item, in training and ranking: `dot` or `cosine`.
    pub similarity: Similarity,
    /// Scores are divided by it in training; 0: 1 for dot, 0.07 for cosine.
    pub temperature: f64,
    /// Negatives k drawn for each prediction (sampled, bce, gbce, bpr).
    pub negatives: usize,
    /// Where negatives are drawn from: `uniform`, `popularity` or `in-batch`; never the user's own items.
    pub sampler: Sampler,
    /// Calibration t of gbce: 0 is bce, 1 removes the overconfidence of few negatives.
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

/// Known losses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveKind {
    /// In-batch debiased softmax (Yuan et al. 2023).
    InBatch,
    /// Softmax over the whole catalogue.
    Full,
    /// Softmax over the label and drawn negatives, corrected by their probability (Jean et al. 2015).
    Sampled,
    /// Binary cross-entropy of the label and drawn negatives.
    Bce,
    /// The same with the label's probability raised to a power (gSASRec; Petrov & Macdonald 2023).
    Gbce,
    /// Bayesian personalised ranking (Rendle et al. 2009).
    Bpr,
}

/// Which items are predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Positions {
    /// As fits the user encoder.
    Auto,
    /// The next item after each event.
    All,
    /// The last item only.
    Last,
    /// Hidden items.
    Masked,
}

/// Weight of repeated negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Multiplicity {
    /// As the reference: one column a slot.
    Slots,
    /// One column an item.
    Once,
}

/// Score of a state and an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Similarity {
    /// Inner product.
    Dot,
    /// Of unit vectors.
    Cosine,
}

/// Source of negatives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sampler {
    /// Every candidate alike.
    Uniform,
    /// By share of training events.
    Popularity,
    /// Events of the same batch: nothing more to encode. Where it holds nothing but the user's own, from the catalogue.
    InBatch,
}

impl ObjectiveConfig {
    /// What is predicted, `auto` resolved.
    pub fn positions(&self, user: UserKind) -> Positions {
        match (self.positions, user) {
            (Positions::Auto, UserKind::Bert4rec) => Positions::Masked,
            (Positions::Auto, _) => Positions::All,
            (given, _) => given,
        }
    }
    /// What scores are divided by in training.
    pub fn temperature(&self) -> f64 {
        match (self.temperature, self.similarity) {
            (0.0, Similarity::Dot) => 1.0,
            (0.0, Similarity::Cosine) => 0.07,
            (t, _) => t,
        }
    }
    /// Whether negatives are drawn.
    pub fn draws(&self) -> bool {
        !matches!(self.kind, ObjectiveKind::InBatch | ObjectiveKind::Full)
    }
    /// Refuses impossible values.
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
    /// Refuses what a catalogue of `items` candidates cannot give.
    pub fn check_catalogue(&self, items: usize) -> Result<()> {
        if self.draws() && self.negatives >= items {
            let m = format!("{} is too many for a catalogue of {items} items; lower it", self.negatives);
            return Err(Error::config("objective.negatives", m));
        }
        Ok(())
    }
}
