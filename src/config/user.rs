//! Settings of the user encoder.

use super::bounds::bounded;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Settings of the user encoder (section `user`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserConfig {
    /// Kind of user encoder: `sasrec`, `bert4rec`, `gru4rec`, `nextitnet`, `caser`, `mean`, `dssm` or `custom`.
    pub kind: UserKind,
    /// Width d of item and user vectors.
    pub dim: usize,
    /// Number of transformer blocks, GRU layers, NextItNet blocks, or layers of DSSM's user tower.
    pub layers: usize,
    /// Number of attention heads; has to divide `dim` (sasrec, bert4rec).
    pub heads: usize,
    /// Dropout probability.
    pub dropout: f64,
    /// Length L of the longest history, in events.
    pub max_len: usize,
    /// Position of the layer norms (sasrec, bert4rec): `post` (MoRec), `pre`, or `original` (Kang & McAuley's block).
    pub norm: NormPosition,
    /// Kernel size of a convolution, in events (nextitnet).
    pub kernel: usize,
    /// Dilations of the blocks' first convolutions, repeated cyclically; the second one's is twice as large
    /// (nextitnet).
    pub dilations: Vec<usize>,
    /// Number of last events that the convolutions read (caser).
    pub window: usize,
    /// Number of horizontal filters of each height 1 … `window` (caser).
    pub horizontal: usize,
    /// Number of vertical filters (caser).
    pub vertical: usize,
    /// Whether each user of the data set has a learned vector: the tower of dssm, and beside the convolutions of caser.
    /// Such a model has vectors for its training users only and does not transfer.
    pub user_id: bool,
}

impl Default for UserConfig {
    fn default() -> Self {
        Self {
            kind: UserKind::Sasrec,
            dim: 64,
            layers: 2,
            heads: 2,
            dropout: 0.1,
            max_len: 10,
            norm: NormPosition::Post,
            kernel: 3,
            dilations: vec![1, 4],
            window: 5,
            horizontal: 16,
            vertical: 4,
            user_id: false,
        }
    }
}

/// Kinds of user encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UserKind {
    /// Self-attentive sequential recommendation (Kang & McAuley 2018).
    Sasrec,
    /// Bidirectional transformer trained on masked items (Sun et al. 2019).
    Bert4rec,
    /// Recurrent network of GRU layers (Hidasi et al. 2016).
    Gru4rec,
    /// Dilated causal convolutions (Yuan et al. 2019).
    Nextitnet,
    /// Horizontal and vertical convolutions over the last events (Tang & Wang 2018).
    Caser,
    /// Mean of the history's item vectors; no parameters.
    Mean,
    /// Two-tower model (Huang et al. 2013): a network over the mean of the history, or over the user id.
    Dssm,
    /// User-defined encoder, passed to [`crate::experiment::Experiment`]. Of this section only `dim` and `max_len` are
    /// used, except for settings that the encoder itself reads.
    Custom,
}

/// Position of the layer norms in a transformer block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NormPosition {
    /// After each residual sum.
    Post,
    /// Before each sub-layer, and once at the end.
    Pre,
    /// SASRec's original block, as in RecTools: only the query is normalised, and the residual is the normalised value.
    Original,
}

impl UserConfig {
    /// Whether the encoder is bidirectional, so that predicted items have to be masked.
    pub fn hides(&self) -> bool {
        self.kind == UserKind::Bert4rec
    }
    /// Number of positions of a sequence: L, plus one for the mask of a bidirectional encoder.
    pub fn slots(&self) -> usize {
        self.max_len + usize::from(self.hides())
    }
    /// Refuses impossible values with an error that names the field.
    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(key, m));
        let positive = [
            ("user.dim", self.dim),
            ("user.layers", self.layers),
            ("user.heads", self.heads),
            ("user.max_len", self.max_len),
            ("user.kernel", self.kernel),
            ("user.window", self.window),
            ("user.horizontal", self.horizontal),
            ("user.vertical", self.vertical),
        ];
        if let Some((key, _)) = positive.iter().find(|(_, v)| *v == 0) {
            return bad(key, "has to be at least 1".into());
        }
        let widths = [
            ("user.dim", self.dim),
            ("user.kernel", self.kernel),
            ("user.window", self.window),
            ("user.horizontal", self.horizontal),
            ("user.vertical", self.vertical),
        ];
        bounded(1 << 16, &widths)?;
        let widest = self.dilations.iter().copied().max().unwrap_or(0);
        bounded(1 << 20, &[("user.max_len", self.max_len), ("user.dilations", widest)])?;
        bounded(1 << 10, &[("user.layers", self.layers), ("user.dilations", self.dilations.len())])?;
        if !self.dropout.is_finite() || !(0.0..1.0).contains(&self.dropout) {
            return bad("user.dropout", format!("{} is no probability below 1", self.dropout));
        }
        let transformer = matches!(self.kind, UserKind::Sasrec | UserKind::Bert4rec);
        if transformer && !self.dim.is_multiple_of(self.heads) {
            return bad("user.heads", format!("{} does not divide user.dim = {}", self.heads, self.dim));
        }
        if self.norm == NormPosition::Original && self.kind != UserKind::Sasrec {
            return bad("user.norm", "`original` is a form of sasrec; use `post` or `pre`".into());
        }
        if self.kind == UserKind::Nextitnet {
            if self.kernel > self.max_len {
                let m = format!("{} is longer than user.max_len = {}", self.kernel, self.max_len);
                return bad("user.kernel", m);
            }
            if self.dilations.is_empty() || self.dilations.contains(&0) {
                return bad("user.dilations", "needs at least one dilation, each at least 1".into());
            }
        }
        if self.kind == UserKind::Caser && self.window > self.max_len {
            return bad("user.window", format!("{} is longer than user.max_len = {}", self.window, self.max_len));
        }
        if self.user_id && !matches!(self.kind, UserKind::Dssm | UserKind::Caser) {
            return bad("user.user_id", "only dssm and caser know users by id".into());
        }
        Ok(())
    }
}
