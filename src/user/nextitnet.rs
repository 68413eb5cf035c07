//! NextItNet (Yuan et al. 2019): residual blocks of two dilated causal convolutions, block (b) of the paper, as in
//! RecBole, with dropout on the item vectors.

use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::adapter::{Sublayer, SublayerAdapter};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, ops};

const EPS: f64 = 1e-8;

struct Block {
    conv: [Linear; 2],
    norm: [LayerNorm; 2],
    /// Model patches after the convolutions (PeterRec; Yuan et al. 2020).
    patch: [SublayerAdapter; 2],
    dilation: usize,
}

/// Dilated causal convolutions over the history.
pub struct NextItNet {
    blocks: Vec<Block>,
    last: Linear,
    kernel: usize,
    dropout: f32,
}

impl NextItNet {
    /// Declares `residual_blocks.{b}.conv1`, `.conv2` (weight (d, kernel·d), with the oldest event's weights first),
    /// `.ln1`, `.ln2`, and `final_layer`.
    pub fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        let d = c.dim;
        let blocks = (0..c.layers)
            .map(|b| {
                let s = scope.pp(format!("residual_blocks.{b}"));
                let conv = |name: &str| Linear::new(&s.pp(name), c.kernel * d, d, true, Init::XavierNormal);
                let norm = |name: &str| LayerNorm::new(&s.pp(name), d, EPS);
                Ok(Block {
                    conv: [conv("conv1")?, conv("conv2")?],
                    norm: [norm("ln1")?, norm("ln2")?],
                    patch: [
                        SublayerAdapter::new(&s, Sublayer::FirstConv, d)?,
                        SublayerAdapter::new(&s, Sublayer::SecondConv, d)?,
                    ],
                    dilation: c.dilations[b % c.dilations.len()],
                })
            })
            .collect::<Result<_>>()?;
        let last = Linear::new(&scope.pp("final_layer"), d, d, true, Init::XavierNormal)?;
        Ok(Self { blocks, last, kernel: c.kernel, dropout: c.dropout as f32 })
    }
}

impl UserEncoder for NextItNet {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let mut x = ops::dropout(pass, x, self.dropout)?;
        for b in &self.blocks {
            let mut y = x.clone();
            for (i, ((conv, norm), patch)) in b.conv.iter().zip(&b.norm).zip(&b.patch).enumerate() {
                let z = ops::causal_conv(pass, &y, &h.segments, conv, self.kernel, b.dilation << i)?;
                y = patch.apply(pass, &y, z)?;
                y = ops::add_norm(pass, &y, None, norm, 0.0)?;
                y = ops::activation(pass, &y, Activation::Relu)?;
            }
            x = ops::add(pass, &x, &y, 0.0)?;
        }
        ops::linear(pass, &x, &self.last)
    }
}
