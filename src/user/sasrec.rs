//! SASRec (Kang & McAuley 2018): in MoRec's form (Yuan et al. 2023; post-norm, attention without biases, no final
//! norm), as a pre-norm transformer, or in the authors' form.

use super::transformer::Stack;
use super::{Histories, UserEncoder};
use crate::config::{NormPosition, UserConfig};
use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Weight};

/// Causal self-attention over the history.
pub struct SasRec(Form);

enum Form {
    Stack(Stack),
    Original(Original),
}

impl SasRec {
    /// Declares the parameters of the form that `user.norm` selects.
    pub fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        Ok(Self(match c.norm {
            NormPosition::Original => Form::Original(Original::new(scope, c)?),
            _ => Form::Stack(Stack::new(scope, c, true, Activation::Relu)?),
        }))
    }
}

impl UserEncoder for SasRec {
    fn encode(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        match &self.0 {
            Form::Stack(s) => s.forward(x, h, pass),
            Form::Original(o) => o.forward(x, h, pass),
        }
    }
}

/// Block in which only the query is normalised in the attention, and the residual connections start at the normalised
/// values.
struct OriginalBlock {
    query_norm: LayerNorm,
    q: Linear,
    k: Linear,
    v: Linear,
    out: Linear,
    forward_norm: LayerNorm,
    w1: Linear,
    w2: Linear,
}

/// The authors' form as in RecTools and the usual PyTorch port: attention with biases and an output map, feed-forward d
/// → d → d, a final norm; item vectors are not scaled by √d. Parameter names are the port's, with the attention split
/// into query, key and value.
struct Original {
    positions: Weight,
    blocks: Vec<OriginalBlock>,
    last: LayerNorm,
    attention: AttentionSpec,
}

const EPS: f64 = 1e-8;

impl Original {
    fn new(scope: &Scope, c: &UserConfig) -> Result<Self> {
        let d = c.dim;
        let dense = |s: Scope| Linear::new(&s, d, d, true, Init::XavierNormal);
        let blocks = (0..c.layers)
            .map(|i| {
                let (a, f) = (scope.pp(format!("attention_layers.{i}")), scope.pp(format!("forward_layers.{i}")));
                Ok(OriginalBlock {
                    query_norm: LayerNorm::new(&scope.pp(format!("attention_layernorms.{i}")), d, EPS)?,
                    q: dense(a.pp("query"))?,
                    k: dense(a.pp("key"))?,
                    v: dense(a.pp("value"))?,
                    out: dense(a.pp("out_proj"))?,
                    forward_norm: LayerNorm::new(&scope.pp(format!("forward_layernorms.{i}")), d, EPS)?,
                    w1: dense(f.pp("conv1"))?,
                    w2: dense(f.pp("conv2"))?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            positions: scope.pp("pos_emb").weight("weight", &[c.slots(), d], Init::XavierNormal)?,
            blocks,
            last: LayerNorm::new(&scope.pp("last_layernorm"), d, EPS)?,
            attention: AttentionSpec { heads: c.heads, causal: true, dropout: c.dropout as f32 },
        })
    }
    fn forward(&self, x: &Act, h: &Histories, pass: &Pass) -> Result<Act> {
        let p = self.attention.dropout;
        let x = ops::embed(pass, Some(x), &[(&self.positions, h.slots.clone())])?;
        let mut x = ops::dropout(pass, &x, p)?;
        for b in &self.blocks {
            let q = ops::add_norm(pass, &x, None, &b.query_norm, 0.0)?;
            let qkv =
                ops::concat_columns(pass, &[&ops::linear(pass, &q, &b.q)?, &ops::linears(pass, &x, &[&b.k, &b.v])?])?;
            let a = ops::linear(pass, &ops::attention(pass, &qkv, &h.segments, self.attention)?, &b.out)?;
            x = ops::add(pass, &q, &a, 0.0)?;
            let y = ops::add_norm(pass, &x, None, &b.forward_norm, 0.0)?;
            let f = ops::activation(pass, &ops::linear(pass, &y, &b.w1)?, Activation::Relu)?;
            let f = ops::linear(pass, &ops::dropout(pass, &f, p)?, &b.w2)?;
            x = ops::add(pass, &y, &f, p)?;
        }
        ops::add_norm(pass, &x, None, &self.last, 0.0)
    }
}
