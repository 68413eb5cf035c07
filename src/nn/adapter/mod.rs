//! Small trainable parts inside frozen layers.
//!
//! A model asks its scope at each place where a part may stand; the scope answers by the settings it was given. What was
//! added is marked as such, changes nothing at the start unless asked to (a soft prompt cannot but change it), and everything
//! else stays frozen.
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

/// What is added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// A bottleneck after the attention's output and one after the feed-forward part's, each before residual and norm.
    Houlsby,
    /// One after the feed-forward part.
    Pfeiffer,
    /// Beside both sub-layers: of the sub-layer's input, added to its output.
    Parallel,
    /// As Houlsby's, of Kronecker products, with GELU.
    Compacter,
    /// W + (α/r)·B·A on query and value.
    Lora,
    /// Learned factors on keys, values, and what goes into the second map of the feed-forward part.
    Ia3,
    /// Learned rows before each sequence.
    Prompt,
    /// Small transformers over some layers' hidden states.
    KAdapter,
    /// Towers of bottlenecks over pooled hidden states.
    Side,
}

/// Settings for one part of a model.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdapterSpec {
    /// What is added.
    pub method: Method,
    /// Width of a bottleneck, rank, or length of a prompt.
    pub width: usize,
    /// Only in the last blocks; 0: in all.
    pub last: usize,
    /// LoRA's α.
    pub alpha: f64,
    /// σ of a bottleneck's weights at the start; 0: the upper one is zero, so that nothing changes.
    pub sigma: f64,
    /// Compacter: number of Kronecker products.
    pub products: usize,
    /// Side towers: every how many blocks a hidden state is read.
    pub every: usize,
}

impl AdapterSpec {
    /// The first of so many blocks in which something is added.
    pub fn first(&self, blocks: usize) -> usize {
        if self.last == 0 { 0 } else { blocks.saturating_sub(self.last) }
    }
}
