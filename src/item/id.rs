//! Items as rows of a learned embedding table: the ID-based baseline, which does not transfer.

use super::{ItemEncoder, ItemTable};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::{Act, Pass, Scope, Weight, ops};

/// ID encoder: one learned vector per item.
pub struct IdEncoder {
    weight: Weight,
}

impl IdEncoder {
    /// Declares `weight` (count, dim), initialised by Xavier normal as in MoRec.
    pub fn new(scope: &Scope, count: usize, dim: usize) -> Result<Self> {
        Ok(Self { weight: scope.weight("weight", &[count, dim], Init::XavierNormal)? })
    }
}

impl ItemEncoder for IdEncoder {
    fn dim(&self) -> usize {
        self.weight.shape()[1]
    }
    fn encode(&self, items: &ItemTable, pass: &Pass) -> Result<Act> {
        ops::embed(pass, None, &[(&self.weight, items.ids.clone())])
    }
}
