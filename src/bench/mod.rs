//! Speed side by side: the same work in this program and in a PyTorch script, each in its own process, in turns.
//!
//! A case is a [`Spec`]: plain numbers, handed to both sides as JSON, so that both do the same shapes.

mod cases;
mod child;
mod ranking;
mod recommend;
mod sasrec;
mod text;
mod versus;
mod vision;

pub use cases::{CASES, Kind, Named, Spec};
pub use child::serve;
pub use versus::{Comparison, Options, Side, compare};

use crate::error::Result;
use crate::nn::{Act, Tape};
use crate::train::optimizer::AdamW;
use candle_core::{Device, Tensor};

/// Work that can be repeated.
pub trait Case {
    /// Does it once; a number that the other side has to agree with, where there is one.
    fn step(&mut self) -> Result<Option<f64>>;
}

/// Prepares a case.
pub fn open(spec: &Spec) -> Result<Box<dyn Case>> {
    Ok(match spec.kind {
        Kind::Text => Box::new(text::Training::new(spec)?),
        Kind::Sasrec => Box::new(sasrec::Training::new(spec)?),
        Kind::Morec | Kind::MorecFrozen => Box::new(recommend::Training::new(spec)?),
        Kind::Encode | Kind::EncodeOnnx => Box::new(text::Encoding::new(spec)?),
        Kind::Vit | Kind::VitEncode | Kind::Resnet | Kind::ResnetEncode => Box::new(vision::Network::new(spec)?),
        Kind::Decode => Box::new(vision::Decoding::new(spec)?),
        Kind::Rank => Box::new(ranking::Ranking::new(spec)),
    })
}

/// Backward and AdamW, parameter by parameter as the trainer does it.
fn stepping(tape: &Tape, loss: &Act, optimizer: &mut AdamW, lr: f64) -> Result<()> {
    optimizer.begin();
    let mut step = |p: &crate::nn::Weight| {
        optimizer.apply(p, lr, 0.01, 1.0)?;
        p.release_grad();
        Ok(())
    };
    tape.backward_with(loss, Tensor::new(1f32, &Device::Cpu)?, Some(&mut step))?;
    Ok(())
}
