//! What every vision network does, and what their configurations share.

use super::batch::Images;
use crate::error::Result;
use crate::nn::kernels::Activation;
use crate::nn::ops::Pooling;
use crate::nn::{Act, Pass};

/// A vision network in pieces, so that what is frozen can be kept and the rest run from there. Values are rows: pixels or
/// tokens of one picture after those of the other.
pub trait Backbone: Send + Sync {
    /// Width of what comes out.
    fn width(&self) -> usize;
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// Whether any parameter of a block, or of what stands below the first (`None`), trains.
    fn trains(&self, block: Option<usize>) -> bool;
    /// Whether any parameter above the last block trains.
    fn head_trains(&self) -> bool;
    /// Rows a picture and their width, after so many blocks.
    fn shape_after(&self, blocks: usize) -> (usize, usize);
    /// Pictures → what goes into the first block.
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act>;
    /// Block `i` over `n` pictures; with `only_class` just the rows of the class token come out, where there is one.
    fn block(&self, i: usize, x: &Act, n: usize, pass: &Pass, only_class: bool) -> Result<Act>;
    /// What comes out of the last block → (n, width).
    fn head(&self, x: &Act, n: usize, how: Pooling, pass: &Pass) -> Result<Act>;
    /// What comes out of the last block over `n` pictures, normed where `head` norms: all rows of the pictures.
    fn rows(&self, x: &Act, n: usize, pass: &Pass) -> Result<Act>;
    /// Whether there is a class token.
    fn has_class(&self) -> bool;
}

/// Names that a weight below the backbone may have in a checkpoint.
pub fn file_names(name: &str) -> Vec<String> {
    ["", "vit.", "dinov2.", "resnet.", "swin.", "model."].iter().map(|p| format!("{p}{name}")).collect()
}

/// A non-linearity by its name in config.json.
pub(super) fn activation(name: &str) -> Result<Activation, String> {
    Ok(match name {
        "gelu" => Activation::Gelu,
        "gelu_new" | "gelu_pytorch_tanh" | "gelu_fast" => Activation::GeluTanh,
        "quick_gelu" => Activation::QuickGelu,
        "relu" => Activation::Relu,
        "silu" | "swish" => Activation::Silu,
        other => return Err(format!("hidden_act `{other}` is not known")),
    })
}
