//! Transformer blocks in MoRec's form and with its names: attention without biases, feed-forward d → 4d → d, post-norm
//! or pre-norm.

use super::Histories;
use crate::config::{NormPosition, UserConfig};
use crate::error::Result;
use crate::nn::adapter::{LinearRole, Sublayer, SublayerAdapter};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Weight};

const EPS: f64 = 1e-6;

struct Block {
    q: Linear,
    k: Linear,
    v: Linear,
    fc: Linear,
    attention_norm: LayerNorm,
    w1: Linear,
    w2: Linear,
    feed_forward_norm: LayerNorm,
    after_attention: SublayerAdapter,
    after_output: SublayerAdapter,
}

/// Transformer with learned positions, blocks, and a norm before (post-norm) or after (pre-norm) the blocks.
pub(super) struct Stack {
    positions: Weight,
    norm: LayerNorm,
    blocks: Vec<Block>,
    place: NormPosition,
    attention: AttentionSpec,
    inner: Activation,
}

impl Stack {
    /// Declares `position_embedding`, `layer_norm` and `transformer_blocks.*`, below `transformer_encoder`.
    pub(super) fn new(scope: &Scope, c: &UserConfig, causal: bool, inner: Activation) -> Result<Self> {
        let s = scope.pp("transformer_encoder");
        let d = c.dim;
        let dense = |s: Scope, i: usize, o: usize, bias: bool| Linear::new(&s, i, o, bias, Init::XavierNormal);
        let blocks = (0..c.layers)
            .map(|i| {
                let b = s.pp(format!("transformer_blocks.{i}"));
                let (a, f) = (b.pp("multi_head_attention"), b.pp("feed_forward"));
                let updated = |name: &str, role: LinearRole| {
                    Linear::adapted(&a.pp(name), role, (d, d), false, Init::XavierNormal)
                };
                Ok(Block {
                    q: updated("w_Q", LinearRole::Query)?,
                    k: updated("w_K", LinearRole::Key)?,
                    v: updated("w_V", LinearRole::Value)?,
                    after_attention: SublayerAdapter::new(&b, Sublayer::Attention, d)?,
                    after_output: SublayerAdapter::new(&b, Sublayer::FeedForward, d)?,
                    fc: dense(a.pp("fc"), d, d, false)?,
                    attention_norm: LayerNorm::new(&a.pp("layer_norm"), d, EPS)?,
                    w1: dense(f.pp("w_1"), d, 4 * d, true)?,
                    w2: Linear::adapted(&f.pp("w_2"), LinearRole::Outer, (4 * d, d), true, Init::XavierNormal)?,
                    feed_forward_norm: LayerNorm::new(&f.pp("layer_norm"), d, EPS)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            positions: s.pp("position_embedding").weight("weight", &[c.slots(), d], Init::XavierNormal)?,
            norm: LayerNorm::new(&s.pp("layer_norm"), d, EPS)?,
            blocks,
            place: c.norm,
            attention: AttentionSpec { heads: c.heads, causal, dropout: c.dropout as f32 },
            inner,
        })
    }
    /// Maps x (t, d), packed as `h`, to hidden states (t, d).
    pub(super) fn forward(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let p = self.attention.dropout;
        let mut x = ops::embed(pass, Some(x), &[(&self.positions, h.slots.clone())])?;
        if self.place == NormPosition::Post {
            x = ops::add_norm(pass, &x, None, &self.norm, 0.0)?;
        }
        x = ops::dropout(pass, &x, p)?;
        let attend = |x: &Act, b: &Block| -> Result<Act> {
            let qkv = ops::linears(pass, x, &[&b.q, &b.k, &b.v])?;
            ops::linear(pass, &ops::attention(pass, &qkv, &h.segments, self.attention)?, &b.fc)
        };
        for b in &self.blocks {
            if self.place == NormPosition::Post {
                x = b.after_attention.add_norm(pass, attend(&x, b)?, &x, &b.attention_norm, p)?;
                let f = ops::feed_forward(pass, &x, &b.w1, self.inner, &b.w2)?;
                x = b.after_output.add_norm(pass, f, &x, &b.feed_forward_norm, p)?;
            } else {
                let y = ops::add_norm(pass, &x, None, &b.attention_norm, 0.0)?;
                x = b.after_attention.sum(pass, &x, attend(&y, b)?, &y, p)?;
                let y = ops::add_norm(pass, &x, None, &b.feed_forward_norm, 0.0)?;
                let f = ops::feed_forward(pass, &y, &b.w1, self.inner, &b.w2)?;
                x = b.after_output.sum(pass, &x, f, &y, p)?;
            }
        }
        if self.place == NormPosition::Post { Ok(x) } else { ops::add_norm(pass, &x, None, &self.norm, 0.0) }
    }
}
