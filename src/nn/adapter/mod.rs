//! Adapters: small trainable parts inside frozen layers.
//!
//! A model queries its scope at each position where an adapter can be inserted, and the scope answers by its settings.
//! Parameters of adapters are marked as such; everything else stays frozen. An adapter leaves the output unchanged at
//! the start unless its settings say otherwise (a soft prompt always changes it).
//!
//! | method | source |
//! |---|---|
//! | bottlenecks, serial | Houlsby et al. 2019; Pfeiffer et al. 2021; in NextItNet Yuan et al. 2020 (PeterRec) |
//! | bottlenecks, parallel | He et al. 2022 |
//! | bottlenecks of Kronecker products | Karimi Mahabadi et al. 2021 (Compacter) |
//! | low-rank updates | Hu et al. 2022 (LoRA) |
//! | scaled keys, values, inner activations | Liu et al. 2022, (IA)³ |
//! | soft prompt | Lester et al. 2021 |
//! | external blocks over hidden states | Wang et al. 2021 (K-Adapter) |
//! | side towers over hidden states | Fu et al. 2024 (IISAN) |

mod bottleneck;
mod update;

pub use bottleneck::{Bottleneck, Sublayer, SublayerAdapter};
pub use update::{LinearAdapter, LinearRole, Lora};

/// Adapter method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A bottleneck after the attention's output and one after the feed-forward part, each before residual and norm.
    Houlsby,
    /// One bottleneck per block, after the feed-forward part.
    Pfeiffer,
    /// Bottlenecks in parallel to both sub-layers: applied to the sub-layer's input, added to its output.
    Parallel,
    /// Bottlenecks at Houlsby's positions, made of Kronecker products, with GELU.
    Compacter,
    /// Low-rank update W + (α/r)·B·A of query and value maps.
    Lora,
    /// Learned factors on keys, values, and the input of the second feed-forward map.
    Ia3,
    /// Soft prompt: learned rows before each sequence.
    Prompt,
    /// Small transformers over the hidden states of some layers.
    KAdapter,
    /// Side towers: bottlenecks over pooled hidden states.
    Side,
}

/// Adapter settings for one part of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdapterSpec {
    /// Adapter method.
    pub method: Method,
    /// Width of a bottleneck, rank of an update, or length of a prompt in rows.
    pub width: usize,
    /// Number of last blocks that get an adapter; 0 means all blocks.
    pub last: usize,
    /// Scale α of LoRA.
    pub alpha: f64,
    /// Standard deviation of a bottleneck's initial weights; 0 sets the up-projection to zero, so that the output is
    /// unchanged.
    pub sigma: f64,
    /// Number of Kronecker products of Compacter.
    pub products: usize,
    /// Side towers read a hidden state every so many blocks.
    pub every: usize,
}

impl AdapterSpec {
    /// Index of the first block, among `blocks`, that gets an adapter.
    pub fn first(&self, blocks: usize) -> usize {
        if self.last == 0 { 0 } else { blocks.saturating_sub(self.last) }
    }
}
