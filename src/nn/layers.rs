//! Layers as bundles of parameters: linear maps, layer normalisation, batch normalisation.

use crate::error::Result;
use crate::nn::adapter::{LinearAdapter, LinearRole};
use crate::nn::host::{tensor, to_vec};
use crate::nn::init::Init;
use crate::nn::params::{Scope, Weight};
use crate::nn::tape::Pass;

/// Linear map y = x·Wᵀ + b.
#[derive(Clone)]
pub struct Linear {
    /// Weight W, shape (out, in).
    pub weight: Weight,
    /// Bias b, shape (out).
    pub bias: Option<Weight>,
    /// Adapter of this map; only layers built by [`Linear::adapted`] can have one.
    pub update: LinearAdapter,
}

impl Linear {
    /// Declares `weight` (out, in) and, if `bias` is true, `bias` (out), which starts at 0.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Self> {
        let weight = scope.weight("weight", &[outputs, inputs], init)?;
        let bias = if bias { Some(scope.weight("bias", &[outputs], Init::Zeros)?) } else { None };
        Ok(Self { weight, bias, update: LinearAdapter::None })
    }
    /// As [`Linear::new`], with the adapter that the scope's settings give to a map of this role.
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
    /// Builds a linear map from existing parameters, without adapter.
    pub fn of(weight: Weight, bias: Option<Weight>) -> Self {
        Self { weight, bias, update: LinearAdapter::None }
    }
    /// Iterates over weight and bias, without the adapter's parameters.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
    /// Number of output features.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }
    /// Whether any parameter of the map or of its adapter is trainable.
    pub fn trains(&self) -> bool {
        self.weight.trains()
            || self.bias.as_ref().is_some_and(|b| b.trains())
            || self.update.weights().iter().any(|w| w.trains())
    }
}

/// Gain and shift of layer normalisation (Ba et al. 2016).
#[derive(Clone)]
pub struct LayerNorm {
    /// Gain, shape (d).
    pub weight: Weight,
    /// Shift, shape (d).
    pub bias: Weight,
    /// Constant ε added to the variance.
    pub eps: f32,
}

impl LayerNorm {
    /// Declares `weight` = 1 and `bias` = 0, both of shape (d).
    pub fn new(scope: &Scope, d: usize, eps: f64) -> Result<Self> {
        let scope = scope.normal();
        Ok(Self {
            weight: scope.weight("weight", &[d], Init::Ones)?,
            bias: scope.weight("bias", &[d], Init::Zeros)?,
            eps: eps as f32,
        })
    }
    /// Gain and shift.
    pub fn weights(&self) -> [&Weight; 2] {
        [&self.weight, &self.bias]
    }
    /// Whether gain or shift is trainable.
    pub fn trains(&self) -> bool {
        self.weight.trains() || self.bias.trains()
    }
}

/// Gain, shift and running statistics of batch normalisation (Ioffe & Szegedy 2015).
#[derive(Clone)]
pub struct BatchNorm {
    /// Gain, shape (c).
    pub weight: Weight,
    /// Shift, shape (c).
    pub bias: Weight,
    /// Running mean per channel, shape (c); a buffer, never trained by gradients.
    pub running_mean: Weight,
    /// Running variance per channel, shape (c); a buffer, never trained by gradients.
    pub running_var: Weight,
    /// Constant ε added to the variance.
    pub eps: f32,
}

/// Weight of the current batch in the update of the running statistics (PyTorch's `momentum`).
const MOMENTUM: f32 = 0.1;

impl BatchNorm {
    /// Declares `weight` = 1, `bias` = 0 and the buffers `running_mean` = 0, `running_var` = 1, each of shape (c).
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
    /// Gain and shift.
    pub fn weights(&self) -> [&Weight; 2] {
        [&self.weight, &self.bias]
    }
    /// Whether gain or shift is trainable.
    pub fn trains(&self) -> bool {
        self.weight.trains() || self.bias.trains()
    }
    /// Scale γ/σ and shift β − μγ/σ per channel, from the running statistics.
    pub fn fixed(&self) -> Result<(Vec<f32>, Vec<f32>)> {
        let all = [&self.weight, &self.bias, &self.running_mean, &self.running_var];
        let [gamma, beta, mean, var] = all.map(|w| to_vec(&w.value()));
        let scale: Vec<f32> = gamma?.iter().zip(var?).map(|(g, v)| g / (v + self.eps).sqrt()).collect();
        let shift = beta?.iter().zip(mean?).zip(&scale).map(|((b, m), s)| b - m * s).collect();
        Ok((scale, shift))
    }
    /// Updates the running statistics with mean and variance of a batch of `rows` rows; does nothing in a pass that
    /// does not record.
    pub(super) fn observe(&self, pass: &Pass, mean: &[f32], var: &[f32], rows: usize) -> Result<()> {
        if !pass.records(true) {
            return Ok(());
        }
        // PyTorch stores the unbiased variance.
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
