//! SASRec (Kang & McAuley 2018) in MoRec's form (Yuan et al. 2023): post-LN, bias-free attention, no final norm.
//!
//! Parameter names are MoRec's, below `transformer_encoder`.

use super::{Histories, UserEncoder};
use crate::config::UserConfig;
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, Linear, Norm, Pass, Scope, Weight};

const EPS: f64 = 1e-6;

struct Block {
    q: Linear,
    k: Linear,
    v: Linear,
    fc: Linear,
    attention_norm: Norm,
    w1: Linear,
    w2: Linear,
    feed_forward_norm: Norm,
}

/// Causal transformer over the last L events.
pub struct SasRec {
    positions: Weight,
    norm: Norm,
    blocks: Vec<Block>,
    heads: usize,
    dropout: f32,
}

impl SasRec {
    /// Parameters `transformer_encoder.{position_embedding,layer_norm,transformer_blocks.*}`.
    pub fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        let s = scope.pp("transformer_encoder");
        let d = c.dim;
        let dense = |s: Scope, i: usize, o: usize, bias: bool| Linear::new(&s, i, o, bias, Init::XavierNormal);
        let blocks = (0..c.layers)
            .map(|i| {
                let b = s.pp(format!("transformer_blocks.{i}"));
                let (a, f) = (b.pp("multi_head_attention"), b.pp("feed_forward"));
                Ok(Block {
                    q: dense(a.pp("w_Q"), d, d, false)?,
                    k: dense(a.pp("w_K"), d, d, false)?,
                    v: dense(a.pp("w_V"), d, d, false)?,
                    fc: dense(a.pp("fc"), d, d, false)?,
                    attention_norm: Norm::new(&a.pp("layer_norm"), d, EPS)?,
                    w1: dense(f.pp("w_1"), d, 4 * d, true)?,
                    w2: dense(f.pp("w_2"), 4 * d, d, true)?,
                    feed_forward_norm: Norm::new(&f.pp("layer_norm"), d, EPS)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            positions: s.pp("position_embedding").weight("weight", &[c.max_len, d], Init::XavierNormal)?,
            norm: Norm::new(&s.pp("layer_norm"), d, EPS)?,
            blocks,
            heads: c.heads,
            dropout: c.dropout as f32,
        })
    }
}

impl UserEncoder for SasRec {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let p = self.dropout;
        let x = ops::embed(pass, Some(x), &[(&self.positions, h.slots.clone())])?;
        let x = ops::add_norm(pass, &x, None, &self.norm, 0.0)?;
        let mut x = ops::dropout(pass, &x, p)?;
        let spec = AttentionSpec { heads: self.heads, causal: true, dropout: p };
        for b in &self.blocks {
            let qkv = ops::linears(pass, &x, &[&b.q, &b.k, &b.v])?;
            let a = ops::attention(pass, &qkv, &h.segments, spec)?;
            let a = ops::linear(pass, &a, &b.fc)?;
            x = ops::add_norm(pass, &a, Some(&x), &b.attention_norm, p)?;
            let f = ops::feed_forward(pass, &x, &b.w1, Activation::Relu, &b.w2)?;
            x = ops::add_norm(pass, &f, Some(&x), &b.feed_forward_norm, p)?;
        }
        Ok(x)
    }
}
