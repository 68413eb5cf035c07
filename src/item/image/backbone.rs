//! The interface of vision backbones, and what their configurations have in common.

use super::batch::Images;
use crate::error::Result;
use crate::nn::kernels::Activation;
use crate::nn::ops::Pooling;
use crate::nn::{Act, Pass};

/// A vision backbone that can be run block by block, so that the output of frozen blocks can be cached and only the
/// others run in a step. Activations are rows: the pixels or tokens of one image after those of another.
pub trait Backbone: Send + Sync {
    /// Number of columns of the backbone's output.
    fn width(&self) -> usize;
    /// Number of blocks.
    fn blocks(&self) -> usize;
    /// Whether any parameter of a block is trainable; with `None`, of the layers before the first block.
    fn trains(&self, block: Option<usize>) -> bool;
    /// Whether any parameter after the last block is trainable.
    fn head_trains(&self) -> bool;
    /// Rows per image and number of columns after the first `blocks` blocks.
    fn shape_after(&self, blocks: usize) -> (usize, usize);
    /// Computes the input of the first block from images.
    fn embed(&self, images: &Images, pass: &Pass) -> Result<Act>;
    /// Runs block `i` over `n` images; with `only_class` returns only the rows of the class tokens, if the backbone has
    /// them.
    fn block(&self, i: usize, x: &Act, n: usize, pass: &Pass, only_class: bool) -> Result<Act>;
    /// Pools the output of the last block → (n, width).
    fn head(&self, x: &Act, n: usize, how: Pooling, pass: &Pass) -> Result<Act>;
    /// All rows of the last block's output for `n` images, normalised if [`head`](Self::head) normalises them.
    fn rows(&self, x: &Act, n: usize, pass: &Pass) -> Result<Act>;
    /// Whether the backbone has a class token.
    fn has_class(&self) -> bool;
}

/// Possible names of a backbone's parameter in a checkpoint. CLIP's vision model is written with the prefix `vision_model.`, and
/// by transformers 5 without it.
pub fn file_names(name: &str) -> Vec<String> {
    let mut names: Vec<String> =
        ["", "vit.", "dinov2.", "resnet.", "swin.", "model."].iter().map(|p| format!("{p}{name}")).collect();
    names.extend(name.strip_prefix("vision_model.").map(String::from));
    names
}

/// Activation function by its name in `config.json`.
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
