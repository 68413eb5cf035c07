//! Adapters that read the hidden states of a frozen encoder: side towers and K-Adapter. The encoder runs once per item
//! in a whole run, and no gradient flows through it.

use super::frozen_cache::TapSchedule;
use super::k_adapter::KAdapter;
use super::side_tower::SideTower;
use crate::error::{Error, Result};
use crate::nn::adapter::Method;
use crate::nn::ops;
use crate::nn::{Act, Pass, Scope};

/// The adapter that reads an encoder's hidden states, if there is one.
pub(super) enum HiddenStateAdapter {
    None,
    SideTower(SideTower),
    KAdapter(KAdapter),
}

impl HiddenStateAdapter {
    /// Builds the adapter for an encoder of `blocks` blocks of width `d` and item vectors of width `dim`.
    pub(super) fn new(scope: &Scope, blocks: usize, d: usize, dim: usize) -> Result<Self> {
        let Some(a) = scope.adapter() else { return Ok(Self::None) };
        let first = a.first(blocks);
        let schedule = |every: usize| TapSchedule { first, every: every.max(1) };
        Ok(match a.method {
            Method::Side => {
                let scope = scope.pp("side").mark_adapter();
                Self::SideTower(SideTower::new(&scope, a, schedule(a.every), blocks, d, dim)?)
            }
            Method::KAdapter => {
                let (scope, half) = (scope.pp("knowledge").mark_adapter(), schedule((blocks - first).div_ceil(2)));
                Self::KAdapter(KAdapter::new(&scope, a, half, blocks, d)?)
            }
            _ => Self::None,
        })
    }
    /// Numbers of blocks after which hidden states are read, without the last hidden state.
    pub(super) fn taps(&self) -> &[usize] {
        match self {
            Self::None => &[],
            Self::SideTower(s) => &s.taps,
            Self::KAdapter(k) => &k.taps,
        }
    }
    /// Schedule from which [`taps`](Self::taps) is computed.
    pub(super) fn schedule(&self) -> TapSchedule {
        match self {
            Self::None => TapSchedule { first: 0, every: 1 },
            Self::SideTower(s) => s.schedule,
            Self::KAdapter(k) => k.schedule,
        }
    }
}

/// Returns an error if the settings ask for adapters in more blocks than the encoder has.
pub(super) fn check_adapter_layers(scope: &Scope, blocks: usize) -> Result<()> {
    match scope.adapter() {
        Some(a) if a.last > blocks => {
            Err(Error::config("adapter.layers", format!("{} blocks: the encoder has {blocks}", a.last)))
        }
        _ => Ok(()),
    }
}

/// Splits the columns of rows (n, parts · w) into `parts` values of shape (n, w).
pub(super) fn split_columns(pass: &Pass, rows: &Act, parts: usize) -> Result<Vec<Act>> {
    let width = rows.dims2()?.1 / parts;
    (0..parts).map(|i| ops::slice_columns(pass, rows, i * width, width)).collect()
}
