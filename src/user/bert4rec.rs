//! BERT4Rec (Sun et al. 2019): bidirectional self-attention, trained to predict masked items. The next item is
//! predicted at a mask appended to the history.
//!
//! The mask vector is a parameter of the user encoder. Unlike in the reference it is not an item: it is neither a
//! candidate nor a negative.

use super::transformer::Stack;
use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::{Act, Pass, Scope, Weight};

/// Bidirectional self-attention over the history, with masked positions.
pub struct Bert4Rec {
    stack: Stack,
    mask: Weight,
}

impl Bert4Rec {
    /// Declares SASRec's parameters and `mask` (d).
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
