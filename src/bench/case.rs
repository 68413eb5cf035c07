//! A piece of work that is timed, and the optimiser step that training cases share.

use crate::error::Result;
use crate::nn::{Act, Tape};
use crate::train::optimizer::AdamW;
use candle_core::{Device, Tensor};

/// Work that can be repeated.
pub trait Case {
    /// Does it once; a number that the other side has to agree with, where there is one.
    fn step(&mut self) -> Result<Option<f64>>;
}

/// Backward and AdamW, parameter by parameter as the trainer does it.
pub(super) fn stepping(tape: &Tape, loss: &Act, optimizer: &mut AdamW, lr: f64) -> Result<()> {
    optimizer.begin();
    let mut step = |p: &crate::nn::Weight| {
        optimizer.apply(p, lr, 0.01, 1.0)?;
        p.release_grad();
        Ok(())
    };
    tape.backward_with(loss, Tensor::new(1f32, &Device::Cpu)?, Some(&mut step))?;
    Ok(())
}
