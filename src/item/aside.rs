//! Readers of a frozen encoder's hidden states: side towers (IISAN; Fu et al. 2024) and external blocks (K-Adapter; Wang et
//! al. 2021). The encoder itself runs once an item in a whole run; no gradient ever goes through it.

use super::prefix::Heights;
use crate::error::{Error, Result};
use crate::nn::adapt::{Adapt, Bottleneck, Method};
use crate::nn::init::Init;
use crate::nn::kernels::Activation;
use crate::nn::ops::{self, AttentionSpec};
use crate::nn::{Act, Linear, Norm, Pass, Scope, Segments, Weight};

/// IISAN's temperature of gates.
const TEMPERATURE: f32 = 0.1;
/// K-Adapter's blocks at each height.
const BLOCKS: usize = 2;
/// Its heads, where the width divides by them.
const HEADS: usize = 4;

/// What reads an encoder's hidden states, if anything does.
pub(super) enum Aside {
    None,
    Side(Side),
    Knowledge(Knowledge),
}

impl Aside {
    /// Beside an encoder of so many blocks, all of width `d`, for vectors of width `dim`.
    pub(super) fn new(scope: &Scope, blocks: usize, d: usize, dim: usize) -> Result<Self> {
        let Some(a) = scope.adapt() else { return Ok(Self::None) };
        let first = a.first(blocks);
        let heights = |every: usize| Heights { first, every: every.max(1) };
        Ok(match a.method {
            Method::Side => Self::Side(Side::new(&scope.pp("side").added(), a, heights(a.every), blocks, d, dim)?),
            Method::Knowledge => {
                let (s, half) = (scope.pp("knowledge").added(), heights((blocks - first).div_ceil(2)));
                Self::Knowledge(Knowledge::new(&s, a, half, blocks, d)?)
            }
            _ => Self::None,
        })
    }
    /// After how many blocks hidden states are read, the last left out.
    pub(super) fn taps(&self) -> &[usize] {
        match self {
            Self::None => &[],
            Self::Side(s) => &s.taps,
            Self::Knowledge(k) => &k.taps,
        }
    }
    /// The same in short.
    pub(super) fn heights(&self) -> Heights {
        match self {
            Self::None => Heights { first: 0, every: 1 },
            Self::Side(s) => s.heights,
            Self::Knowledge(k) => k.heights,
        }
    }
}

fn below(heights: Heights, blocks: usize) -> Vec<usize> {
    (heights.first..blocks).step_by(heights.every).collect()
}

/// Refuses adapters in more blocks than there are.
pub(super) fn within(scope: &Scope, blocks: usize) -> Result<()> {
    match scope.adapt() {
        Some(a) if a.last > blocks => {
            Err(Error::config("adapter.layers", format!("{} blocks: the encoder has {blocks}", a.last)))
        }
        _ => Ok(()),
    }
}

/// Parts of equal width, side by side in `rows`.
pub(super) fn split(pass: &Pass, rows: &Act, parts: usize) -> Result<Vec<Act>> {
    let width = rows.dims2()?.1 / parts;
    (0..parts).map(|i| ops::part(pass, rows, i * width, width)).collect()
}

/// s₀ = A₀(h₀), sₗ = Aₗ(g·hₗ + (1 − g)·sₗ₋₁), g = σ(p / 0.1), p from 0; A is a bottleneck with its residual. What the tower
/// says is mapped to the width of item vectors and added to them; that map starts at zero, so that nothing changes at first.
pub(super) struct Side {
    heights: Heights,
    taps: Vec<usize>,
    floors: Vec<Bottleneck>,
    gates: Vec<Weight>,
    out: Linear,
}

fn floors(scope: &Scope, a: Adapt, n: usize, d: usize) -> Result<Vec<Bottleneck>> {
    (0..n).map(|i| Bottleneck::new(scope, &i.to_string(), d, a, Activation::Relu)).collect()
}

fn gate(scope: &Scope, i: usize) -> Result<Weight> {
    scope.pp("gate").weight(&i.to_string(), &[1], Init::Zeros)
}

impl Side {
    fn new(scope: &Scope, a: Adapt, heights: Heights, blocks: usize, d: usize, dim: usize) -> Result<Self> {
        let taps = below(heights, blocks);
        Ok(Self {
            heights,
            floors: floors(scope, a, taps.len() + 1, d)?,
            gates: (1..=taps.len()).map(|i| gate(scope, i)).collect::<Result<_>>()?,
            out: Linear::new(&scope.pp("out"), d, dim, false, Init::Zeros)?,
            taps,
        })
    }
    /// Pooled hidden states, lowest first, each (n, d) → what is added to the items' vectors (n, dim).
    pub(super) fn run(&self, pass: &Pass, h: &[Act]) -> Result<Act> {
        let [first, above @ ..] = h else {
            return Err(Error::Numeric("a side tower without hidden states".into()));
        };
        let mut s = self.floors[0].onto(pass, first)?;
        for ((h, floor), p) in above.iter().zip(&self.floors[1..]).zip(&self.gates) {
            s = floor.onto(pass, &ops::blend(pass, h, &s, p, TEMPERATURE)?)?;
        }
        ops::linear(pass, &s, &self.out)
    }
}

/// mₗ = Aₗ(mₗ₋₁ + g·imageₗ + (1 − g)·textₗ), from the last height downwards where the encoders differ in depth; pictures'
/// hidden states are mapped to the text's width where they differ in that.
pub(super) struct Between {
    floors: Vec<Bottleneck>,
    gates: Vec<Weight>,
    lift: Option<Linear>,
    out: Linear,
}

impl Between {
    /// Between encoders of so many (taps, width) each.
    pub(super) fn new(scope: &Scope, text: (usize, usize), image: (usize, usize), dim: usize) -> Result<Option<Self>> {
        let Some(a) = scope.adapt().filter(|a| a.method == Method::Side) else { return Ok(None) };
        let scope = scope.added();
        let (n, d) = (text.0.min(image.0), text.1);
        Ok(Some(Self {
            floors: floors(&scope, a, n, d)?,
            gates: (0..n).map(|i| gate(&scope, i)).collect::<Result<_>>()?,
            lift: match image.1 == d {
                true => None,
                false => Some(Linear::new(&scope.pp("lift"), image.1, d, false, Init::XavierNormal)?),
            },
            out: Linear::new(&scope.pp("out"), d, dim, false, Init::Zeros)?,
        }))
    }
    /// Hidden states of both, each (n, its width) → what is added to the items' vectors.
    pub(super) fn run(&self, pass: &Pass, text: &[Act], image: &[Act]) -> Result<Act> {
        let n = self.floors.len();
        let mut m: Option<Act> = None;
        let pairs = text[text.len() - n..].iter().zip(&image[image.len() - n..]);
        for ((floor, p), (t, v)) in self.floors.iter().zip(&self.gates).zip(pairs) {
            let v = match &self.lift {
                Some(lift) => ops::linear(pass, v, lift)?,
                None => v.clone(),
            };
            let mixed = ops::blend(pass, &v, t, p, TEMPERATURE)?;
            let below = match &m {
                Some(m) => ops::add(pass, m, &mixed, 0.0)?,
                None => mixed,
            };
            m = Some(floor.onto(pass, &below)?);
        }
        let m = m.ok_or_else(|| Error::Numeric("an inter tower without hidden states".into()))?;
        ops::linear(pass, &m, &self.out)
    }
}

/// A small post-norm transformer block.
struct Block {
    query: Linear,
    key: Linear,
    value: Linear,
    dense: Linear,
    norm: Norm,
    inner: Linear,
    outer: Linear,
    last: Norm,
}

impl Block {
    fn new(scope: &Scope, w: usize) -> Result<Self> {
        let line = |name: &str, i: usize, o: usize| Linear::new(&scope.pp(name), i, o, true, Init::Normal(0.02));
        let norm = |name: &str| Norm::new(&scope.pp(name), w, 1e-6);
        Ok(Self {
            query: line("query", w, w)?,
            key: line("key", w, w)?,
            value: line("value", w, w)?,
            dense: line("dense", w, w)?,
            norm: norm("norm")?,
            inner: line("inner", w, 4 * w)?,
            outer: line("outer", 4 * w, w)?,
            last: norm("last")?,
        })
    }
    fn run(&self, pass: &Pass, x: &Act, segments: &Segments) -> Result<Act> {
        let heads = if x.dims2()?.1.is_multiple_of(HEADS) { HEADS } else { 1 };
        let qkv = ops::linears(pass, x, &[&self.query, &self.key, &self.value])?;
        let spec = AttentionSpec { heads, causal: false, dropout: 0.0 };
        let a = ops::linear(pass, &ops::attention(pass, &qkv, segments, spec)?, &self.dense)?;
        let x = ops::add_norm(pass, &a, Some(x), &self.norm, 0.0)?;
        let f = ops::feed_forward(pass, &x, &self.inner, Activation::Gelu, &self.outer)?;
        ops::add_norm(pass, &f, Some(&x), &self.last, 0.0)
    }
}

struct Height {
    down: Linear,
    blocks: Vec<Block>,
    up: Linear,
}

/// a₀ = 0, aᵢ = aᵢ₋₁ + Up(blocks(Down(hᵢ + aᵢ₋₁))), and a is added to the last hidden state. The paper's skip carries hᵢ as well and
/// joins by concatenation; this form starts with no change.
pub(super) struct Knowledge {
    heights: Heights,
    taps: Vec<usize>,
    parts: Vec<Height>,
}

impl Knowledge {
    fn new(scope: &Scope, a: Adapt, heights: Heights, blocks: usize, d: usize) -> Result<Self> {
        let taps = below(heights, blocks);
        let up = if a.sigma > 0.0 { Init::Normal(a.sigma) } else { Init::Zeros };
        let parts = (0..=taps.len())
            .map(|i| {
                let s = scope.pp(i);
                let blocks = (0..BLOCKS).map(|b| Block::new(&s.pp(format!("layer.{b}")), a.width));
                Ok(Height {
                    down: Linear::new(&s.pp("down"), d, a.width, true, Init::Normal(0.02))?,
                    blocks: blocks.collect::<Result<_>>()?,
                    up: Linear::new(&s.pp("up"), a.width, d, true, up)?,
                })
            })
            .collect::<Result<_>>()?;
        Ok(Self { heights, taps, parts })
    }
    /// Hidden states of all rows, lowest first, each (t, d), packed as `segments` → the last with what is added.
    pub(super) fn run(&self, pass: &Pass, h: &[Act], segments: &Segments) -> Result<Act> {
        let mut a: Option<Act> = None;
        for (height, h) in self.parts.iter().zip(h) {
            let x = match &a {
                Some(a) => ops::add(pass, h, a, 0.0)?,
                None => h.clone(),
            };
            let mut x = ops::linear(pass, &x, &height.down)?;
            for b in &height.blocks {
                x = b.run(pass, &x, segments)?;
            }
            let more = ops::linear(pass, &x, &height.up)?;
            a = Some(match a {
                Some(a) => ops::add(pass, &a, &more, 0.0)?,
                None => more,
            });
        }
        match (a, h.last()) {
            (Some(a), Some(last)) => ops::add(pass, last, &a, 0.0),
            _ => Err(Error::Numeric("an external adapter without hidden states".into())),
        }
    }
}
