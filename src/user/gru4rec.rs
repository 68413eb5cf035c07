//! GRU4Rec (Hidasi et al. 2016; Tan et al. 2016) as in RecBole: dropout on the item vectors, GRU layers without biases,
//! one linear layer to the item space.

use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::{Act, Linear, Pass, Scope, Weight, ops};

struct Layer {
    input: Linear,
    recurrent: Weight,
}

/// Gated recurrent units over the history.
pub struct Gru4Rec {
    layers: Vec<Layer>,
    dense: Linear,
    dropout: f32,
}

impl Gru4Rec {
    /// Declares `gru_layers.{l}.weight_ih`, `.weight_hh` (3d, d), gates in PyTorch's order, and `dense`.
    pub fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        let d = c.dim;
        let layers = (0..c.layers)
            .map(|l| {
                let s = scope.pp(format!("gru_layers.{l}"));
                Ok(Layer {
                    input: Linear::of(s.weight("weight_ih", &[3 * d, d], Init::XavierNormal)?, None),
                    recurrent: s.weight("weight_hh", &[3 * d, d], Init::XavierNormal)?,
                })
            })
            .collect::<Result<_>>()?;
        let dense = Linear::new(&scope.pp("dense"), d, d, true, Init::XavierNormal)?;
        Ok(Self { layers, dense, dropout: c.dropout as f32 })
    }
}

impl UserEncoder for Gru4Rec {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let mut x = ops::dropout(pass, x, self.dropout)?;
        for l in &self.layers {
            let gates = ops::linear(pass, &x, &l.input)?;
            x = ops::gru(pass, &gates, &h.segments, &l.recurrent)?;
        }
        ops::linear(pass, &x, &self.dense)
    }
}
