//! K-Adapter (Wang et al. 2021): small transformers over a frozen encoder's hidden states.

use super::frozen_cache::TapSchedule;
use crate::error::{Error, Result};
use crate::nn::adapter::AdapterSpec;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, LayerNorm, Linear, Pass, Scope, Segments};

/// Number of transformer blocks per tap.
const BLOCKS: usize = 2;
/// Number of attention heads, if it divides the width; otherwise 1.
const HEADS: usize = 4;

/// A small post-norm transformer block.
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: LayerNorm,
    inner: Linear,
    outer: Linear,
    last: LayerNorm,
}

impl Block {
    fn new(scope: &Scope, w: usize) -> Result<Self> {
        let linear = |name: &str, i: usize, o: usize| Linear::new(&scope.pp(name), i, o, true, Init::Normal(0.02));
        let norm = |name: &str| LayerNorm::new(&scope.pp(name), w, 1e-6);
        Ok(Self {
            query: linear("query", w, w)?,
            key: linear("key", w, w)?,
            value: linear("value", w, w)?,
            dense: linear("dense", w, w)?,
            norm: norm("norm")?,
            inner: linear("inner", w, 4 * w)?,
            outer: linear("outer", 4 * w, w)?,
            last: norm("last")?,
        })
    }
    fn forward(&self, pass: &Pass, x: &Act, segments: &Segments) -> Result<Act> {
        let heads = if x.dims2()?.1.is_multiple_of(HEADS) { HEADS } else { 1 };
        let qkv = ops::linears(pass, x, &[&self.query, &self.key, &self.value])?;
        let spec = AttentionSpec { heads, causal: false, dropout: 0.0 };
        let a = ops::linear(pass, &ops::attention(pass, &qkv, segments, spec)?, &self.dense)?;
        let x = ops::add_norm(pass, &a, Some(x), &self.norm, 0.0)?;
        let f = ops::feed_forward(pass, &x, &self.inner, Activation::Gelu, &self.outer)?;
        ops::add_norm(pass, &f, Some(&x), &self.last, 0.0)
    }
}

/// Down-projection, blocks and up-projection at one tap.
struct AdapterLayer {
    down: Linear,
    blocks: Vec<Block>,
    up: Linear,
}

/// K-Adapter: a₀ = 0, aᵢ = aᵢ₋₁ + Up(blocks(Down(hᵢ + aᵢ₋₁))), and the last a is added to the last hidden state. In the
/// paper the skip connection also carries hᵢ, and the results are concatenated; in this form the model's output is
/// unchanged at the start.
pub(super) struct KAdapter {
    pub(super) schedule: TapSchedule,
    pub(super) taps: Vec<usize>,
    layers: Vec<AdapterLayer>,
}

impl KAdapter {
    /// Builds the adapter for an encoder of `blocks` blocks of width `d`.
    pub(super) fn new(scope: &Scope, a: AdapterSpec, schedule: TapSchedule, blocks: usize, d: usize) -> Result<Self> {
        let taps = schedule.taps(blocks);
        let up = if a.sigma > 0.0 { Init::Normal(a.sigma) } else { Init::Zeros };
        let layers = (0..=taps.len())
            .map(|i| {
                let s = scope.pp(i);
                let blocks = (0..BLOCKS).map(|b| Block::new(&s.pp(format!("layer.{b}")), a.width));
                Ok(AdapterLayer {
                    down: Linear::new(&s.pp("down"), d, a.width, true, Init::Normal(0.02))?,
                    blocks: blocks.collect::<Result<_>>()?,
                    up: Linear::new(&s.pp("up"), a.width, d, true, up)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { schedule, taps, layers })
    }
    /// Adds the adapter's output to the last hidden state → (t, d). `h` holds the hidden states at the taps and the
    /// last one, each (t, d), packed as `segments`.
    pub(super) fn forward(&self, pass: &Pass, h: &[Act], segments: &Segments) -> Result<Act> {
        let mut a: Option<Act> = None;
        for (layer, h) in self.layers.iter().zip(h) {
            let x = match &a {
                Some(a) => ops::add(pass, h, a, 0.0)?,
                None => h.clone(),
            };
            let mut x = ops::linear(pass, &x, &layer.down)?;
            for b in &layer.blocks {
                x = b.forward(pass, &x, segments)?;
            }
            let y = ops::linear(pass, &x, &layer.up)?;
            a = Some(match a {
                Some(a) => ops::add(pass, &a, &y, 0.0)?,
                None => y,
            });
        }
        match (a, h.last()) {
            (Some(a), Some(last)) => ops::add(pass, last, &a, 0.0),
            _ => Err(Error::Numeric("K-Adapter without hidden states".into())),
        }
    }
}
