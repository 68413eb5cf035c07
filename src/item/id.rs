//! Items as rows of a learned table: the baseline that does not transfer.

use super::{ItemEncoder, ItemTable};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::{Act, Pass, Scope, Weight, ops};

/// One learned vector an item.
pub struct IdEncoder {
    weight: Weight,
}

impl IdEncoder {
    /// Parameter `weight` (count, dim), Xavier-normal like MoRec's.
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
