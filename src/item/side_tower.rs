//! Side towers for a frozen encoder (IISAN; Fu et al. 2024): bottlenecks over its pooled hidden states.

use super::frozen_cache::TapSchedule;
use crate::error::{Error, Result};
use crate::nn::adapter::{AdapterSpec, Bottleneck, Method};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops;
use crate::nn::{Act, Linear, Pass, Scope, Weight};

/// Temperature of the gates' sigmoid, as in IISAN's code.
const TEMPERATURE: f32 = 0.1;

fn bottlenecks(scope: &Scope, a: AdapterSpec, n: usize, d: usize) -> Result<Vec<Bottleneck>> {
    (0..n).map(|i| Bottleneck::new(scope, &i.to_string(), d, a, Activation::Relu)).collect()
}

fn gate(scope: &Scope, i: usize) -> Result<Weight> {
    scope.pp("gate").weight(&i.to_string(), &[1], Init::Zeros)
}

/// Side tower of one encoder: s₀ = A₀(h₀), sₗ = Aₗ(g·hₗ + (1 − g)·sₗ₋₁), g = σ(p / 0.1) with p = 0 at the start; A is a
/// bottleneck with its residual. The output is mapped to the width of item vectors and added to them. That map starts
/// at zero, so the model's output is unchanged at the start.
pub(super) struct SideTower {
    pub(super) schedule: TapSchedule,
    pub(super) taps: Vec<usize>,
    bottlenecks: Vec<Bottleneck>,
    gates: Vec<Weight>,
    out: Linear,
}

impl SideTower {
    /// Builds the tower for an encoder of `blocks` blocks of width `d` and item vectors of width `dim`.
    pub(super) fn new(
        scope: &Scope,
        a: AdapterSpec,
        schedule: TapSchedule,
        blocks: usize,
        d: usize,
        dim: usize,
    ) -> Result<Self> {
        let taps = schedule.taps(blocks);
        Ok(Self {
            schedule,
            bottlenecks: bottlenecks(scope, a, taps.len() + 1, d)?,
            gates: (1..=taps.len()).map(|i| gate(scope, i)).collect::<Result<_>>()?,
            out: Linear::new(&scope.pp("out"), d, dim, false, Init::Zeros)?,
            taps,
        })
    }
    /// Maps pooled hidden states, first to last, each (n, d), to the value added to the item vectors (n, dim).
    pub(super) fn forward(&self, pass: &Pass, h: &[Act]) -> Result<Act> {
        let [first, above @ ..] = h else {
            return Err(Error::Numeric("a side tower without hidden states".into()));
        };
        let mut s = self.bottlenecks[0].forward_residual(pass, first)?;
        for ((h, bottleneck), p) in above.iter().zip(&self.bottlenecks[1..]).zip(&self.gates) {
            s = bottleneck.forward_residual(pass, &ops::gated_sum(pass, h, &s, p, TEMPERATURE)?)?;
        }
        ops::linear(pass, &s, &self.out)
    }
}

/// Inter-modal tower of IISAN: mₗ = Aₗ(mₗ₋₁ + g·imageₗ + (1 − g)·textₗ). Encoders of different depth are paired
/// backwards from the last hidden state; image hidden states are mapped to the text's width if the widths differ.
pub(super) struct InterTower {
    bottlenecks: Vec<Bottleneck>,
    gates: Vec<Weight>,
    image_projection: Option<Linear>,
    out: Linear,
}

impl InterTower {
    /// Builds the tower for a text and an image encoder, each given as (number of taps, width).
    pub(super) fn new(scope: &Scope, text: (usize, usize), image: (usize, usize), dim: usize) -> Result<Option<Self>> {
        let Some(a) = scope.adapter().filter(|a| a.method == Method::Side) else { return Ok(None) };
        let scope = scope.mark_adapter();
        let (n, d) = (text.0.min(image.0), text.1);
        Ok(Some(Self {
            bottlenecks: bottlenecks(&scope, a, n, d)?,
            gates: (0..n).map(|i| gate(&scope, i)).collect::<Result<_>>()?,
            image_projection: match image.1 == d {
                true => None,
                false => Some(Linear::new(&scope.pp("lift"), image.1, d, false, Init::XavierNormal)?),
            },
            out: Linear::new(&scope.pp("out"), d, dim, false, Init::Zeros)?,
        }))
    }
    /// Maps the hidden states of both encoders, each (n, its width), to the value added to the item vectors (n, dim).
    pub(super) fn forward(&self, pass: &Pass, text: &[Act], image: &[Act]) -> Result<Act> {
        let n = self.bottlenecks.len();
        let mut m: Option<Act> = None;
        let pairs = text[text.len() - n..].iter().zip(&image[image.len() - n..]);
        for ((bottleneck, p), (t, v)) in self.bottlenecks.iter().zip(&self.gates).zip(pairs) {
            let v = match &self.image_projection {
                Some(projection) => ops::linear(pass, v, projection)?,
                None => v.clone(),
            };
            let mixed = ops::gated_sum(pass, &v, t, p, TEMPERATURE)?;
            let input = match &m {
                Some(m) => ops::add(pass, m, &mixed, 0.0)?,
                None => mixed,
            };
            m = Some(bottleneck.forward_residual(pass, &input)?);
        }
        let m = m.ok_or_else(|| Error::Numeric("an inter tower without hidden states".into()))?;
        ops::linear(pass, &m, &self.out)
    }
}
