//! Small trainable parts inside frozen layers: bottlenecks (Houlsby et al. 2019; Pfeiffer et al. 2021; He et al. 2022) and
//! low-rank updates (LoRA; Hu et al. 2022).
//!
//! A model asks its scope at each place where a part may stand; the scope answers by the settings it was given. All of them
//! change nothing at the start unless asked to.

use crate::error::Result;
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::layers::{Linear, Norm};
use crate::nn::ops;
use crate::nn::params::{Scope, Weight};
use crate::nn::tape::{Act, Pass};

/// What is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A bottleneck after the attention's output and one after the feed-forward part's, each before residual and norm.
    Houlsby,
    /// One after the feed-forward part.
    Pfeiffer,
    /// Beside both sub-layers: of the sub-layer's input, added to its output.
    Parallel,
    /// W + (α/r)·B·A on query and value.
    Lora,
}

/// Settings for one part of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Adapt {
    /// What is added.
    pub method: Method,
    /// Width of a bottleneck, or rank.
    pub width: usize,
    /// Only in the last blocks; 0: in all.
    pub last: usize,
    /// LoRA's α.
    pub alpha: f64,
    /// σ of a bottleneck's weights at the start; 0: the upper one is zero, so that nothing changes.
    pub sigma: f64,
}

/// x ↦ Up(ReLU(Down(x))).
pub struct Bottleneck {
    down: Linear,
    up: Linear,
}

impl Bottleneck {
    fn new(scope: &Scope, name: &str, d: usize, a: Adapt) -> Result<Self> {
        let at = scope.pp(name);
        let (down, up) = if a.sigma > 0.0 {
            (Init::Normal(a.sigma), Init::Normal(a.sigma))
        } else {
            (Init::Normal(0.01), Init::Zeros)
        };
        Ok(Self {
            down: Linear::new(&at.pp("down"), d, a.width, true, down)?,
            up: Linear::new(&at.pp("up"), a.width, d, true, up)?,
        })
    }
    fn trains(&self) -> bool {
        self.down.trains() || self.up.trains()
    }
    fn run(&self, pass: &Pass, x: &Act) -> Result<Act> {
        ops::feed_forward(pass, x, &self.down, Activation::Relu, &self.up)
    }
}

/// What stands behind (or beside) one sub-layer of width `d`.
pub enum Site {
    /// Nothing.
    Bare,
    /// y + bottleneck(y).
    Serial(Bottleneck),
    /// y + bottleneck(x), x being what went into the sub-layer.
    Parallel(Bottleneck),
}

/// Which sub-layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The attention.
    Attention,
    /// The feed-forward part.
    FeedForward,
}

impl Site {
    /// By the scope's settings; parameters `adapter_attention.*` or `adapter_output.*`.
    pub fn new(scope: &Scope, place: Place, d: usize) -> Result<Self> {
        let name = match place {
            Place::Attention => "adapter_attention",
            Place::FeedForward => "adapter_output",
        };
        let Some(a) = scope.adapt() else { return Ok(Self::Bare) };
        Ok(match (a.method, place) {
            (Method::Houlsby, _) | (Method::Pfeiffer, Place::FeedForward) => {
                Self::Serial(Bottleneck::new(scope, name, d, a)?)
            }
            (Method::Parallel, _) => Self::Parallel(Bottleneck::new(scope, name, d, a)?),
            _ => Self::Bare,
        })
    }
    /// Whether any of it trains.
    pub fn trains(&self) -> bool {
        match self {
            Self::Bare => false,
            Self::Serial(b) | Self::Parallel(b) => b.trains(),
        }
    }
    /// Whether nothing stands there.
    pub fn is_bare(&self) -> bool {
        matches!(self, Self::Bare)
    }
    /// norm(x + dropout(y)), y being what the sub-layer made of x (a transformer with its norms behind the sub-layers).
    pub fn join(&self, pass: &Pass, y: Act, x: &Act, norm: &Norm, dropout: f32) -> Result<Act> {
        if self.is_bare() {
            return ops::add_norm(pass, &y, Some(x), norm, dropout);
        }
        let y = self.apply(pass, x, ops::dropout(pass, &y, dropout)?)?;
        ops::add_norm(pass, &y, Some(x), norm, 0.0)
    }
    /// x + dropout(y), y being what the sub-layer made of h (its norms before the sub-layers).
    pub fn sum(&self, pass: &Pass, x: &Act, y: Act, h: &Act, dropout: f32) -> Result<Act> {
        if self.is_bare() {
            return ops::add(pass, x, &y, dropout);
        }
        let y = self.apply(pass, h, ops::dropout(pass, &y, dropout)?)?;
        ops::add(pass, x, &y, 0.0)
    }
    /// A sub-layer's output `y`, after dropout, with what is added; `x` went into the sub-layer.
    pub fn apply(&self, pass: &Pass, x: &Act, y: Act) -> Result<Act> {
        match self {
            Self::Bare => Ok(y),
            Self::Serial(b) => ops::add(pass, &y, &b.run(pass, &y)?, 0.0),
            Self::Parallel(b) => ops::add(pass, &y, &b.run(pass, x)?, 0.0),
        }
    }
}

/// A low-rank update of an affine map.
#[derive(Clone)]
pub struct Lora {
    /// (r, in).
    pub a: Weight,
    /// (out, r); zero at the start.
    pub b: Weight,
    /// α/r.
    pub scale: f32,
}

impl Lora {
    /// By the scope's settings: parameters `lora_A.weight` and `lora_B.weight` (PEFT's names).
    pub(super) fn new(scope: &Scope, inputs: usize, outputs: usize) -> Result<Option<Self>> {
        let Some(s) = scope.adapt().filter(|s| s.method == Method::Lora) else { return Ok(None) };
        Ok(Some(Self {
            a: scope.pp("lora_A").weight("weight", &[s.width, inputs], Init::Normal(1.0 / (inputs as f64).sqrt()))?,
            b: scope.pp("lora_B").weight("weight", &[outputs, s.width], Init::Zeros)?,
            scale: (s.alpha / s.width as f64) as f32,
        }))
    }
    /// Whether any of it trains.
    pub fn trains(&self) -> bool {
        self.a.trains() || self.b.trains()
    }
    /// scale · x·Aᵀ·Bᵀ.
    pub(super) fn run(&self, pass: &Pass, x: &Act) -> Result<Act> {
        let line = |w: &Weight| Linear { weight: w.clone(), bias: None, lora: None };
        let y = ops::linear(pass, &ops::linear(pass, x, &line(&self.a))?, &line(&self.b))?;
        ops::scale(pass, &y, self.scale)
    }
}
