//! Settings of adapters: small trainable modules in an otherwise frozen model.

use super::bounds::bounded;
use crate::error::{Error, Result};
use crate::nn::adapter::{AdapterSpec, Method};
use serde::{Deserialize, Serialize};

/// Settings of a model's adapter (section `adapter`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// Adapter method: `none`, or one of houlsby, pfeiffer, parallel, compacter, lora, ia3, prompt, kadapter, side,
    /// peterrec; `morec transfer --preset` with one of these names sets it. The method is inserted in text encoders,
    /// ViTs and Swin (prompt, kadapter and side: not in Swin), and in the user encoders sasrec, bert4rec and nextitnet,
    /// which get houlsby under prompt, kadapter and side. peterrec: in the user encoder only.
    pub method: AdapterMethod,
    /// Bottleneck width (and width of kadapter's blocks) in text and image encoders.
    pub width: usize,
    /// Bottleneck width in the user encoder; 0: no adapter there.
    pub user_width: usize,
    /// Number of last encoder blocks with adapters; 0: all blocks. Blocks below the first adapter are computed once per
    /// item.
    pub layers: usize,
    /// Rank of LoRA's updates.
    pub rank: usize,
    /// LoRA's α; an update is scaled by α/rank.
    pub alpha: f64,
    /// Standard deviation σ of the bottlenecks' initial weights (the reference's is 0.01); 0: adapters have no effect
    /// at the start.
    pub sigma: f64,
    /// Number of Kronecker products (compacter); has to divide all widths.
    pub products: usize,
    /// Position of the model patches (peterrec): `two` per block, `one` per block, or two in `parallel` with the
    /// sub-layers.
    pub patch: Patch,
    /// Number of learned rows of a soft prompt (prompt).
    pub prompt: usize,
    /// Side towers read the hidden state of every `every`-th block and of the last block (side).
    pub every: usize,
    /// Learning rate of adapter parameters; negative: `train.lr`.
    pub lr: f64,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self {
            method: AdapterMethod::None,
            width: 64,
            user_width: 16,
            layers: 0,
            rank: 8,
            alpha: 16.0,
            sigma: 0.0,
            products: 4,
            patch: Patch::Two,
            prompt: 10,
            every: 2,
            lr: -1.0,
        }
    }
}

/// Position of model patches in a block of the user encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patch {
    /// One patch after each of the two sub-layers.
    Two,
    /// One patch after the second sub-layer.
    One,
    /// One patch in parallel with each sub-layer.
    Parallel,
}

/// Adapter methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMethod {
    /// No adapter.
    None,
    /// Two bottlenecks per block (Houlsby et al. 2019).
    Houlsby,
    /// One bottleneck per block, after the feed-forward sub-layer; norms are trained as well (Pfeiffer et al. 2021).
    Pfeiffer,
    /// One bottleneck in parallel with each sub-layer (He et al. 2022).
    Parallel,
    /// Two bottlenecks per block, whose weights are sums of Kronecker products (Karimi Mahabadi et al. 2021).
    Compacter,
    /// Low-rank updates of the query and value projections (Hu et al. 2022).
    Lora,
    /// Learned scales of keys, values and feed-forward activations (Liu et al. 2022).
    Ia3,
    /// Learned rows in front of each sequence (Lester et al. 2021).
    Prompt,
    /// Small transformers over the encoder's hidden states (Wang et al. 2021).
    Kadapter,
    /// Side towers over the encoder's pooled hidden states (Fu et al. 2024).
    Side,
    /// Model patches in the user encoder, as PeterRec's in NextItNet (Yuan et al. 2020); no adapter in item encoders.
    Peterrec,
}

/// All adapter methods, without `none`.
pub const ADAPTERS: [AdapterMethod; 10] = {
    use AdapterMethod::*;
    [Houlsby, Pfeiffer, Parallel, Compacter, Lora, Ia3, Prompt, Kadapter, Side, Peterrec]
};

impl AdapterMethod {
    /// Method with this name in the settings; `None` for an unknown name and for `none`.
    pub fn named(name: &str) -> Option<Self> {
        ADAPTERS.into_iter().find(|m| m.name() == name)
    }
    /// Name of the method in the settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Houlsby => "houlsby",
            Self::Pfeiffer => "pfeiffer",
            Self::Parallel => "parallel",
            Self::Compacter => "compacter",
            Self::Lora => "lora",
            Self::Ia3 => "ia3",
            Self::Prompt => "prompt",
            Self::Kadapter => "kadapter",
            Self::Side => "side",
            Self::Peterrec => "peterrec",
        }
    }
    /// The method inserted in text and image encoders; `None` where they get no adapter.
    fn in_encoders(self) -> Option<Method> {
        Some(match self {
            Self::None | Self::Peterrec => return None,
            Self::Houlsby => Method::Houlsby,
            Self::Pfeiffer => Method::Pfeiffer,
            Self::Parallel => Method::Parallel,
            Self::Compacter => Method::Compacter,
            Self::Lora => Method::Lora,
            Self::Ia3 => Method::Ia3,
            Self::Prompt => Method::Prompt,
            Self::Kadapter => Method::KAdapter,
            Self::Side => Method::Side,
        })
    }
}

impl AdapterConfig {
    fn adapt(&self, method: Method, width: usize, last: usize) -> AdapterSpec {
        let width = match method {
            Method::Lora => self.rank,
            Method::Prompt => self.prompt,
            _ => width,
        };
        let (alpha, sigma, products, every) = (self.alpha, self.sigma, self.products, self.every);
        AdapterSpec { method, width, last, alpha, sigma, products, every }
    }
    /// Adapter of text and image encoders; `None` where they get no adapter.
    pub fn encoder(&self) -> Option<AdapterSpec> {
        Some(self.adapt(self.method.in_encoders()?, self.width, self.layers))
    }
    /// Adapter of the user encoder; `None` where it gets no adapter.
    pub fn user(&self) -> Option<AdapterSpec> {
        let method = match self.method {
            AdapterMethod::None => return None,
            AdapterMethod::Peterrec => match self.patch {
                Patch::Two => Method::Houlsby,
                Patch::One => Method::Pfeiffer,
                Patch::Parallel => Method::Parallel,
            },
            AdapterMethod::Prompt | AdapterMethod::Kadapter | AdapterMethod::Side => Method::Houlsby,
            other => other.in_encoders()?,
        };
        (self.user_width > 0).then(|| self.adapt(method, self.user_width, 0))
    }
    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(format!("adapter.{key}"), m));
        let counts = [
            ("width", self.width),
            ("rank", self.rank),
            ("products", self.products),
            ("prompt", self.prompt),
            ("every", self.every),
        ];
        if let Some((key, _)) = counts.into_iter().find(|c| c.1 == 0) {
            return bad(key, "has to be at least 1".into());
        }
        let widths = [
            ("adapter.width", self.width),
            ("adapter.user_width", self.user_width),
            ("adapter.rank", self.rank),
            ("adapter.products", self.products),
            ("adapter.prompt", self.prompt),
        ];
        bounded(1 << 16, &widths)?;
        if !self.lr.is_finite() {
            return bad("lr", format!("{} is not a finite number", self.lr));
        }
        for (key, v) in [("alpha", self.alpha), ("sigma", self.sigma)] {
            if !v.is_finite() || v < 0.0 {
                return bad(key, format!("{v} is not a finite number ≥ 0"));
            }
        }
        Ok(())
    }
}
