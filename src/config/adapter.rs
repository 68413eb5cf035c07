//! Settings of adapters: small trainable parts in a model that otherwise stays as it is.

use crate::error::{Error, Result};
use crate::nn::adapt::{Adapt, Method};
use serde::{Deserialize, Serialize};

/// What is added to a model, and where.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AdapterConfig {
    /// `none`, `houlsby`, `pfeiffer`, `parallel` or `lora`; `morec transfer --preset` of these names sets it. They stand in BERT and
    /// ViT families and in the transformers of sasrec and bert4rec.
    pub method: AdapterMethod,
    /// Width of bottlenecks in text and image encoders.
    pub width: usize,
    /// Width of bottlenecks in the user encoder (sasrec, bert4rec); 0: none there.
    pub user_width: usize,
    /// Only in the last n blocks of the encoders; 0: in all. What is below them is computed once an item.
    pub layers: usize,
    /// LoRA: rank.
    pub rank: usize,
    /// LoRA: α; an update is scaled by α/rank.
    pub alpha: f64,
    /// Bottlenecks: σ of all weights at the start (the reference's 0.01); 0: they change nothing at the start.
    pub sigma: f64,
}

impl Default for AdapterConfig {
    fn default() -> Self {
        Self { method: AdapterMethod::None, width: 64, user_width: 16, layers: 0, rank: 8, alpha: 16.0, sigma: 0.0 }
    }
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
    /// Low-rank updates of query and value (Hu et al. 2022).
    Lora,
}

impl AdapterMethod {
    /// By its name in settings.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Houlsby, Self::Pfeiffer, Self::Parallel, Self::Lora].into_iter().find(|m| m.name() == name)
    }
    /// As it stands in settings.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Houlsby => "houlsby",
            Self::Pfeiffer => "pfeiffer",
            Self::Parallel => "parallel",
            Self::Lora => "lora",
        }
    }
    fn method(self) -> Option<Method> {
        Some(match self {
            Self::None => return None,
            Self::Houlsby => Method::Houlsby,
            Self::Pfeiffer => Method::Pfeiffer,
            Self::Parallel => Method::Parallel,
            Self::Lora => Method::Lora,
        })
    }
}

impl AdapterConfig {
    fn adapt(&self, width: usize, last: usize) -> Option<Adapt> {
        let method = self.method.method()?;
        let width = if method == Method::Lora { self.rank } else { width };
        Some(Adapt { method, width, last, alpha: self.alpha, sigma: self.sigma })
    }
    /// For text and image encoders.
    pub fn encoder(&self) -> Option<Adapt> {
        self.adapt(self.width, self.layers)
    }
    /// For the user encoder.
    pub fn user(&self) -> Option<Adapt> {
        if self.user_width == 0 { None } else { self.adapt(self.user_width, 0) }
    }
    pub(super) fn check(&self) -> Result<()> {
        let bad = |key: &str, m: String| Err(Error::config(format!("adapter.{key}"), m));
        if self.width == 0 {
            return bad("width", "has to be at least 1".into());
        }
        if self.rank == 0 {
            return bad("rank", "has to be at least 1".into());
        }
        for (key, v) in [("alpha", self.alpha), ("sigma", self.sigma)] {
            if !v.is_finite() || v < 0.0 {
                return bad(key, format!("{v} is not a finite number ≥ 0"));
            }
        }
        Ok(())
    }
}
