//! Parameter bundles: linear maps and norms.

use crate::error::Result;
use crate::nn::adapter::{LinearAdapter, LinearRole};
use crate::nn::host::{tensor, to_vec};
use crate::nn::init::Init;
use crate::nn::params::{Scope, Weight};
use crate::nn::tape::Pass;

/// y = x·Wᵀ + b.
#[derive(Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Weight,
    /// (out).
    pub bias: Option<Weight>,
    /// What is added, to layers that [`Linear::adapted`] made.
    pub update: LinearAdapter,
}

impl Linear {
    /// Parameters `weight` (out, in) and, if asked, `bias` (out), which starts at 0.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Self> {
        let weight = scope.weight("weight", &[outputs, inputs], init)?;
        let bias = if bias { Some(scope.weight("bias", &[outputs], Init::Zeros)?) } else { None };
        Ok(Self { weight, bias, update: LinearAdapter::None })
    }
    /// [`Linear::new`], with what the scope's settings add to a map of this role.
    pub fn adapted(
        scope: &Scope,
        role: LinearRole,
        (inputs, outputs): (usize, usize),
        bias: bool,
        init: Init,
    ) -> Result<Self> {
        let update = LinearAdapter::new(scope, role, inputs, outputs)?;
        Ok(Self { update, ..Self::new(scope, inputs, outputs, bias, init)? })
    }
    /// From parameters at hand.
    pub fn of(weight: Weight, bias: Option<Weight>) -> Self {
        Self { weight, bias, update: LinearAdapter::None }
    }
    /// Its parameters but for an update's.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }
    /// Whether any of its parameters trains.
    pub fn trains(&self) -> bool {
        self.weight.trains()
            || self.bias.as_ref().is_some_and(|b| b.trains())
            || self.update.weights().iter().any(|w| w.trains())
    }
}

/// LayerNorm's gain and shift (Ba et al. 2016).
#[derive(Clone)]
pub struct LayerNorm {
    /// Gain (d).
    pub weight: Weight,
    /// Shift (d).
    pub bias: Weight,
    /// Added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Parameters `weight` = 1 and `bias` = 0 of width `d`.
    pub fn new(scope: &Scope, d: usize, eps: f64) -> Result<Self> {
        let scope = scope.normal();
        Ok(Self {
            weight: scope.weight("weight", &[d], Init::Ones)?,
            bias: scope.weight("bias", &[d], Init::Zeros)?,
            eps: eps as f32,
        })
    }
    /// Its parameters.
    pub fn weights(&self) -> [&Weight; 2] {
        [&self.weight, &self.bias]
    }
    /// Whether any of its parameters trains.
    pub fn trains(&self) -> bool {
        self.weight.trains() || self.bias.trains()
    }
}

/// Batch normalisation's gain, shift and running statistics (Ioffe & Szegedy 2015).
#[derive(Clone)]
pub struct BatchNorm {
    /// Gain (c).
    pub weight: Weight,
    /// Shift (c).
    pub bias: Weight,
    /// Mean over what was seen (c); never trained.
    pub running_mean: Weight,
    /// Variance over what was seen (c); never trained.
    pub running_var: Weight,
    /// Added to the variance.
    pub eps: f32,
}

/// How far the running statistics move towards those of a batch (PyTorch's `momentum`).
const MOMENTUM: f32 = 0.1;

impl BatchNorm {
    /// Parameters `weight` = 1, `bias` = 0 and buffers `running_mean` = 0, `running_var` = 1 of width `c`.
    pub fn new(scope: &Scope, c: usize) -> Result<Self> {
        let scope = scope.normal();
        Ok(Self {
            weight: scope.weight("weight", &[c], Init::Ones)?,
            bias: scope.weight("bias", &[c], Init::Zeros)?,
            running_mean: scope.buffer("running_mean", &[c], Init::Zeros)?,
            running_var: scope.buffer("running_var", &[c], Init::Ones)?,
            eps: 1e-5,
        })
    }
    /// Its parameters.
    pub fn weights(&self) -> [&Weight; 2] {
        [&self.weight, &self.bias]
    }
    /// Whether any of its parameters trains.
    pub fn trains(&self) -> bool {
        self.weight.trains() || self.bias.trains()
    }
    /// γ/σ and β − μγ/σ of the running statistics, a channel.
    pub fn fixed(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let all = [&self.weight, &self.bias, &self.running_mean, &self.running_var];
        let [gamma, beta, mean, var] = all.map(|w| to_vec(&w.value()));
        let scale: Vec<f32> = gamma?.iter().zip(var?).map(|(g, v)| g / (v + self.eps).sqrt()).collect();
        let shift = beta?.iter().zip(mean?).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok((scale, shift))
    }
    /// Moves the running statistics towards those of a batch of `rows`, if the pass is one that records.
    pub(super) fn observe(&self, pass: &Pass, mean: &[f32], var: &[f32], rows: usize) -> Result<()> {
        if !pass.records(true) {
            return Ok(());
        }
        // PyTorch keeps the unbiased variance.
        let unbiased = rows as f32 / (rows.max(2) - 1) as f32;
        let toward = |w: &Weight, seen: &[f32], k: f32| -> Result<()> {
            let old = to_vec(&w.value())?;
            let new = old.iter().zip(seen).map(|(o, s)| (1.0 - MOMENTUM) * o + MOMENTUM * k * s).collect();
            w.set(&tensor(new, w.shape())?.to_device(w.value().device())?)
        };
        toward(&self.running_mean, mean, 1.0)?;
        toward(&self.running_var, var, unbiased)
    }
}
