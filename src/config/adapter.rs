//! Settings of adapters: small trainable parts in a model that otherwise stays as it is.

use super::bounds::bounded;
use crate::error::{Error, Result};
use crate::nn::adapter::{AdapterSpec, Method};
use serde::{Deserialize, Serialize};

/// The adapter of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// `none`, or one of houlsby, pfeiffer, parallel, compacter, lora, ia3, prompt, kadapter, side, peterrec;
    /// `morec transfer --preset` of these names sets it. In text encoders, ViTs and (but for prompt, kadapter, side) Swin stands what the name says; in sasrec, bert4rec
    /// and nextitnet, too, where it can (houlsby with prompt, kadapter and side). peterrec: in the user encoder only.
    pub method: AdapterMethod,
    /// Width of bottlenecks (and of kadapter's blocks) in text and image encoders.
    pub width: usize,
    /// Width of bottlenecks in the user encoder; 0: nothing is added there.
    pub user_width: usize,
    /// Only in the last n blocks of the encoders; 0: in all. What is below them is computed once an item.
    pub layers: usize,
    /// LoRA: rank.
    pub rank: usize,
    /// LoRA: α; an update is scaled by α/rank.
    pub alpha: f64,
    /// Bottlenecks: σ of all weights at the start (the reference's 0.01); 0: they change nothing at the start.
    pub sigma: f64,
    /// Compacter: number of Kronecker products; divides all widths.
    pub products: usize,
    /// peterrec: two patches a block, one, or two beside the sub-layers.
    pub patch: Patch,
    /// Soft prompt: learned rows.
    pub prompt: usize,
    /// Side towers: a hidden state is read every so many blocks, and the last.
    pub every: usize,
    /// Learning rate of what is added; below 0: train.lr.
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

/// How model patches stand in a block of the user encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Patch {
    /// One behind each sub-layer.
    Two,
    /// One behind the second.
    One,
    /// One beside each.
    Parallel,
}

/// Kinds of adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AdapterMethod {
    /// Nothing is added.
    None,
    /// Two bottlenecks a block (Houlsby et al. 2019).
    Houlsby,
    /// One, after the feed-forward part; norms train, too (Pfeiffer et al. 2021).
    Pfeiffer,
    /// One beside each sub-layer (He et al. 2022).
    Parallel,
    /// Two bottlenecks of Kronecker products (Karimi Mahabadi et al. 2021).
    Compacter,
    /// Low-rank updates of query and value (Hu et al. 2022).
    Lora,
    /// Scaled keys, values and inner activations (Liu et al. 2022).
    Ia3,
    /// Learned rows before each sequence (Lester et al. 2021).
    Prompt,
    /// Small transformers over the encoder's hidden states (Wang et al. 2021).
    Kadapter,
    /// Side towers over the encoder's pooled hidden states (Fu et al. 2024).
    Side,
    /// Model patches in the user encoder, PeterRec's in NextItNet (Yuan et al. 2020); item encoders as they are.
    Peterrec,
}

/// All methods but none.
pub const ADAPTERS: [AdapterMethod; 10] = {
    use AdapterMethod::*;
    [Houlsby, Pfeiffer, Parallel, Compacter, Lora, Ia3, Prompt, Kadapter, Side, Peterrec]
};

impl AdapterMethod {
    /// The value with this name in the settings.
    pub fn named(name: &str) -> Option<Self> {
        ADAPTERS.into_iter().find(|m| m.name() == name)
    }
    /// Name in the settings.
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
    /// The adapter method in text and image encoders.
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
    /// For text and image encoders.
    pub fn encoder(&self) -> Option<AdapterSpec> {
        Some(self.adapt(self.method.in_encoders()?, self.width, self.layers))
    }
    /// For the user encoder.
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
