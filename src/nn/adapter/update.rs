//! Adapters of a linear map: a low-rank update (LoRA) or learned factors ((IA)³).

use super::Method;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::params::{Scope, Weight};

/// Role of a linear map in a transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearRole {
    /// Query map of the attention.
    Query,
    /// Key map of the attention.
    Key,
    /// Value map of the attention.
    Value,
    /// Second map of the feed-forward part.
    Outer,
}

/// Adapter of one linear map.
#[derive(Clone)]
pub enum LinearAdapter {
    /// No adapter.
    None,
    /// Low-rank update of the weight.
    Lora(Lora),
    /// Factors of the outputs, shape (out, 1).
    Out(Weight),
    /// Factors of the inputs, shape (1, in).
    In(Weight),
}

impl LinearAdapter {
    /// Builds the adapter that the scope's settings ask for at a map of this role.
    pub(in crate::nn) fn new(scope: &Scope, role: LinearRole, inputs: usize, outputs: usize) -> Result<Self> {
        let added = scope.mark_adapter();
        let ones = |shape: &[usize]| added.weight("ia3_l", shape, Init::Ones);
        Ok(match (scope.adapter().map(|a| a.method), role) {
            (Some(Method::Lora), LinearRole::Query | LinearRole::Value) => {
                Self::Lora(Lora::new(&added, inputs, outputs)?)
            }
            (Some(Method::Ia3), LinearRole::Key | LinearRole::Value) => Self::Out(ones(&[outputs, 1])?),
            (Some(Method::Ia3), LinearRole::Outer) => Self::In(ones(&[1, inputs])?),
            _ => Self::None,
        })
    }
    /// Parameters of the adapter.
    pub fn weights(&self) -> Vec<&Weight> {
        match self {
            Self::None => vec![],
            Self::Lora(l) => vec![&l.a, &l.b],
            Self::Out(w) | Self::In(w) => vec![w],
        }
    }
}

/// Low-rank update W + scale·B·A (LoRA).
#[derive(Clone)]
pub struct Lora {
    /// Matrix A, shape (r, in).
    pub a: Weight,
    /// Matrix B, shape (out, r); zero at the start.
    pub b: Weight,
    /// Factor α/r.
    pub scale: f32,
}

impl Lora {
    /// Declares `lora_A.weight` and `lora_B.weight` (PEFT's names).
    fn new(scope: &Scope, inputs: usize, outputs: usize) -> Result<Self> {
        let (rank, alpha) = scope.adapter().map_or((1, 1.0), |a| (a.width, a.alpha));
        Ok(Self {
            a: scope.pp("lora_A").weight("weight", &[rank, inputs], Init::Normal(1.0 / (inputs as f64).sqrt()))?,
            b: scope.pp("lora_B").weight("weight", &[outputs, rank], Init::Zeros)?,
            scale: (alpha / rank as f64) as f32,
        })
    }
}
