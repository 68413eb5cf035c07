//! BERT4Rec (Sun et al. 2019): both directions, trained to name hidden items; the next item is what a hidden one after the
//! history would be.
//!
//! What stands in place of a hidden item is a vector of the user encoder. It is no item: neither candidate nor negative,
//! unlike in the reference.

use super::transformer::Stack;
use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::{Act, Pass, Scope, Weight};

/// Bidirectional self-attention.
pub struct Bert4Rec {
    stack: Stack,
    mask: Weight,
}

impl Bert4Rec {
    /// Declares its parameters: SASRec's, and `mask` (d).
    pub fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        let mask = scope.weight("mask", &[c.dim], Init::Normal(1.0 / (c.dim as f64).sqrt()))?;
        Ok(Self { stack: Stack::new(scope, c, false, Activation::Gelu)?, mask })
    }
}

impl UserEncoder for Bert4Rec {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        self.stack.forward(x, h, pass)
    }
    fn mask(&self) -> Option<&Weight> {
        Some(&self.mask)
    }
}
