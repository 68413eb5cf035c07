//! Bottleneck adapters after or in parallel to a sub-layer.

use super::{AdapterSpec, Method};
use crate::error::{Error, Result};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::layers::{LayerNorm, Linear};
use crate::nn::ops::{self, Kronecker};
use crate::nn::params::Scope;
use crate::nn::tape::{Act, Pass};

enum Projections {
    Plain(Linear, Linear),
    Kronecker(Kronecker, Kronecker),
}

/// Bottleneck adapter x ↦ Up(f(Down(x))).
pub struct Bottleneck {
    lines: Projections,
    inner: Activation,
}

impl Bottleneck {
    /// Declares `{name}.down.*` and `{name}.up.*`, which map d → width → d.
    pub fn new(scope: &Scope, name: &str, d: usize, a: AdapterSpec, inner: Activation) -> Result<Self> {
        let at = scope.pp(name).mark_adapter();
        let (down, up) = if a.sigma > 0.0 {
            (Init::Normal(a.sigma), Init::Normal(a.sigma))
        } else {
            (Init::Normal(0.01), Init::Zeros)
        };
        let lines = if a.method == Method::Compacter {
            let map = |name: &str, i: usize, o: usize, last: Init| compact(&at.pp(name), (i, o), a.products, last);
            let last = if a.sigma > 0.0 { Init::XavierNormal } else { Init::Zeros };
            Projections::Kronecker(map("down", d, a.width, Init::XavierNormal)?, map("up", a.width, d, last)?)
        } else {
            Projections::Plain(
                Linear::new(&at.pp("down"), d, a.width, true, down)?,
                Linear::new(&at.pp("up"), a.width, d, true, up)?,
            )
        };
        Ok(Self { lines, inner })
    }
    /// Whether any of its parameters is trainable.
    pub fn trains(&self) -> bool {
        match &self.lines {
            Projections::Plain(down, up) => down.trains() || up.trains(),
            Projections::Kronecker(down, up) => down.weights().into_iter().chain(up.weights()).any(|w| w.trains()),
        }
    }
    /// Maps x (t, d) to Up(f(Down(x))), shape (t, d).
    pub fn run(&self, pass: &Pass, x: &Act) -> Result<Act> {
        match &self.lines {
            Projections::Plain(down, up) => ops::feed_forward(pass, x, down, self.inner, up),
            Projections::Kronecker(down, up) => {
                let z = ops::activation(pass, &ops::kronecker(pass, x, down)?, self.inner)?;
                ops::kronecker(pass, &z, up)
            }
        }
    }
    /// Maps x (t, d) to x + Up(f(Down(x))).
    pub fn forward_residual(&self, pass: &Pass, x: &Act) -> Result<Act> {
        ops::add(pass, x, &self.run(pass, x)?, 0.0)
    }
}

/// A map i → o as the sum of n Kronecker products with factors of rank 1. All such maps of the model part share its
/// rule `phm_rule`. `last` is the initial distribution of the right factors (Glorot in Compacter).
fn compact(scope: &Scope, (i, o): (usize, usize), n: usize, last: Init) -> Result<Kronecker> {
    if !i.is_multiple_of(n) || !o.is_multiple_of(n) {
        let m = format!("{n} products need widths that {n} divides; a bottleneck maps {i} to {o}");
        return Err(Error::config("adapter.products", m));
    }
    Ok(Kronecker {
        rule: scope.shared("phm_rule", &[n, n, n], Init::Normal(0.01))?,
        left: scope.weight("W_left", &[n, i / n, 1], Init::XavierNormal)?,
        right: scope.weight("W_right", &[n, 1, o / n], last)?,
        bias: scope.weight("b", &[o], Init::Zeros)?,
    })
}

/// Adapter of one sub-layer of width `d`, if it has one.
pub enum SublayerAdapter {
    /// No adapter.
    Bare,
    /// Sequential adapter: y + bottleneck(y), where y is the sub-layer's output.
    Serial(Bottleneck),
    /// Parallel adapter: y + bottleneck(x), where x is the sub-layer's input and y its output.
    Parallel(Bottleneck),
}

/// Kind of sub-layer that an adapter belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sublayer {
    /// Attention of a transformer block.
    Attention,
    /// Feed-forward part of a transformer block.
    FeedForward,
    /// First convolution of a residual block.
    FirstConv,
    /// Second convolution of a residual block.
    SecondConv,
}

impl SublayerAdapter {
    /// Builds the adapter that the scope's settings ask for; parameters `adapter_{attention,output,conv1,conv2}.*`.
    pub fn new(scope: &Scope, place: Sublayer, d: usize) -> Result<Self> {
        let (name, second) = match place {
            Sublayer::Attention => ("adapter_attention", false),
            Sublayer::FeedForward => ("adapter_output", true),
            Sublayer::FirstConv => ("adapter_conv1", false),
            Sublayer::SecondConv => ("adapter_conv2", true),
        };
        let Some(a) = scope.adapter() else { return Ok(Self::Bare) };
        let gelu = matches!(place, Sublayer::FirstConv | Sublayer::SecondConv) || a.method == Method::Compacter;
        let inner = if gelu { Activation::Gelu } else { Activation::Relu };
        let part = || Bottleneck::new(scope, name, d, a, inner);
        Ok(match (a.method, second) {
            (Method::Houlsby | Method::Compacter, _) | (Method::Pfeiffer, true) => Self::Serial(part()?),
            (Method::Parallel, _) => Self::Parallel(part()?),
            _ => Self::Bare,
        })
    }
    /// Whether any parameter of the adapter is trainable.
    pub fn trains(&self) -> bool {
        match self {
            Self::Bare => false,
            Self::Serial(b) | Self::Parallel(b) => b.trains(),
        }
    }
    /// Whether this sub-layer has no adapter.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Bare)
    }
    /// Computes norm(x + dropout(y)), where y is the sub-layer's output for x (post-norm transformer).
    pub fn add_norm(&self, pass: &Pass, y: Act, x: &Act, norm: &LayerNorm, dropout: f32) -> Result<Act> {
        if self.is_none() {
            return ops::add_norm(pass, &y, Some(x), norm, dropout);
        }
        let y = self.apply(pass, x, ops::dropout(pass, &y, dropout)?)?;
        ops::add_norm(pass, &y, Some(x), norm, 0.0)
    }
    /// Computes x + dropout(y), where y is the sub-layer's output for the normalised h (pre-norm transformer).
    pub fn sum(&self, pass: &Pass, x: &Act, y: Act, h: &Act, dropout: f32) -> Result<Act> {
        if self.is_none() {
            return ops::add(pass, x, &y, dropout);
        }
        let y = self.apply(pass, h, ops::dropout(pass, &y, dropout)?)?;
        ops::add(pass, x, &y, 0.0)
    }
    /// Applies the adapter to the sub-layer's output `y` (after dropout); `x` is the sub-layer's input, used by
    /// parallel adapters. The residual connection stays with the caller.
    pub fn apply(&self, pass: &Pass, x: &Act, y: Act) -> Result<Act> {
        match self {
            Self::Bare => Ok(y),
            Self::Serial(b) => b.forward_residual(pass, &y),
            Self::Parallel(b) => ops::add(pass, &y, &b.run(pass, x)?, 0.0),
        }
    }
}
