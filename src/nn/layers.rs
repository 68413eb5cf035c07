//! Parameter bundles: linear maps and norms.

use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::params::{Scope, Weight};

/// y = x·Wᵀ + b.
#[derive(Clone)]
pub struct Linear {
    /// (out, in).
    pub weight: Weight,
    /// (out).
    pub bias: Option<Weight>,
}

impl Linear {
    /// Parameters `weight` (out, in) and, if asked, `bias` (out), which starts at 0.
    pub fn new(scope: &Scope, inputs: usize, outputs: usize, bias: bool, init: Init) -> Result<Self> {
        let weight = scope.weight("weight", &[outputs, inputs], init)?;
        let bias = if bias { Some(scope.weight("bias", &[outputs], Init::Zeros)?) } else { None };
        Ok(Self { weight, bias })
    }
    /// Its parameters.
    pub fn weights(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
    /// Number of outputs.
    pub fn outputs(&self) -> usize {
        self.weight.shape()[0]
    }
    /// Whether any of its parameters trains.
    pub fn trains(&self) -> bool {
        self.weight.trains() || self.bias.as_ref().is_some_and(|b| b.trains())
    }
}

/// LayerNorm's gain and shift (Ba et al. 2016).
#[derive(Clone)]
pub struct Norm {
    /// Gain (d).
    pub weight: Weight,
    /// Shift (d).
    pub bias: Weight,
    /// Added to the variance.
    pub eps: f32,
}

impl Norm {
    /// Parameters `weight` = 1 and `bias` = 0 of width `d`.
    pub fn new(scope: &Scope, d: usize, eps: f64) -> Result<Self> {
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
