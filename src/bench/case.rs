//! The trait of benchmark cases, and the optimiser step shared by training cases.

use crate::error::Result;
use crate::nn::{Act, Tape};
use crate::train::optimizer::AdamW;
use candle_core::{Device, Tensor};

/// Benchmark work that can be repeated.
pub trait Case {
    /// Executes the work once; returns a value that the peer has to reproduce, where there is one.
    fn step(&mut self) -> Result<Option<f64>>;
}

/// Backward pass and AdamW update per parameter, as in the trainer.
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
