//! The tape: a list of backward steps, run once from the end.
//!
//! candle's own graph zeroes and adds a tensor for every edge and keeps every activation until the loss is dropped.
//! Here a node's first gradient is moved in, parameter gradients go straight into the parameters' buffers, and each
//! node is freed as soon as its backward has run.

use crate::error::{Error, Result};
use crate::nn::kernels;
use crate::nn::params::Weight;
use crate::rng;
use candle_core::{Device, Tensor};
use std::cell::{Cell, RefCell};

type Back = Box<dyn FnOnce(Tensor, &mut Grads) -> Result<()>>;

/// A value on its way through a model; `node` is its place on the tape, `None` for constants.
#[derive(Clone, Debug)]
pub struct Act {
    value: Tensor,
    node: Option<usize>,
}

impl Act {
    /// A value without gradient.
    pub fn constant(value: Tensor) -> Self {
        Self { value, node: None }
    }
    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }
    /// Whether a gradient flows back through it.
    pub fn tracked(&self) -> bool {
        self.node.is_some()
    }
    /// Where its gradient goes, for [`Grads::add`].
    pub fn node(&self) -> Option<usize> {
        self.node
    }
    /// Shape as (rows, columns).
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.value.dims2()?)
    }
}

/// Gradients of activations while the backward pass runs.
pub struct Grads<'a> {
    slots: Vec<Option<Tensor>>,
    ready: Option<OnGradient<'a>>,
}

/// Told of each trainable parameter as soon as its gradient is complete.
pub type OnGradient<'a> = &'a mut dyn FnMut(&Weight) -> Result<()>;

impl Grads<'_> {
    /// An operation has added its part to the gradient of `weights`.
    pub fn done<'w>(&mut self, weights: impl IntoIterator<Item = &'w Weight>) -> Result<()> {
        for w in weights {
            if w.release_use()
                && w.trains()
                && let Some(ready) = self.ready.as_mut()
            {
                ready(w)?;
            }
        }
        Ok(())
    }
    /// Adds `grad` to the gradient of node `node`; nothing for a constant.
    pub fn add(&mut self, node: Option<usize>, grad: Tensor) -> Result<()> {
        let Some(node) = node else { return Ok(()) };
        let slot = &mut self.slots[node];
        *slot = Some(match slot.take() {
            None => grad,
            Some(have) if have.device().is_cpu() => kernels::add_tensors(&have, &grad)?,
            Some(have) => have.add(&grad)?,
        });
        Ok(())
    }
    /// The gradient of a leaf after [`Tape::backward`].
    pub fn of(&self, leaf: &Act) -> Option<&Tensor> {
        leaf.node.and_then(|n| self.slots[n].as_ref())
    }
}

/// Records backward steps during a forward pass.
#[derive(Default)]
pub struct Tape {
    nodes: RefCell<Vec<Option<Back>>>,
}

impl Tape {
    /// An empty tape.
    pub fn new() -> Self {
        Self::default()
    }
    /// A value whose gradient is wanted after [`Tape::backward`].
    pub fn leaf(&self, value: Tensor) -> Act {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(None);
        Act { value, node: Some(nodes.len() - 1) }
    }
    fn push(&self, value: Tensor, back: Back) -> Act {
        let mut nodes = self.nodes.borrow_mut();
        nodes.push(Some(back));
        Act { value, node: Some(nodes.len() - 1) }
    }
    /// Runs every step from `loss`, a scalar scaled by `scale`, to the beginning; the tape is empty afterwards.
    pub fn backward(&self, loss: &Act, scale: f64) -> Result<Grads<'static>> {
        let one = Tensor::full(scale as f32, loss.value.shape(), loss.value.device())?;
        self.backward_from(loss, one)
    }
    /// The same from any value, given the gradient with respect to it.
    pub fn backward_from(&self, out: &Act, grad: Tensor) -> Result<Grads<'static>> {
        self.backward_with(out, grad, None)
    }
    /// [`Tape::backward_from`]; `ready` may use a parameter's gradient up, and change its value, while the pass goes on:
    /// no operation still to come reads it.
    pub fn backward_with<'a>(&self, out: &Act, grad: Tensor, ready: Option<OnGradient<'a>>) -> Result<Grads<'a>> {
        let start = out.node.ok_or_else(|| {
            Error::Numeric("nothing to train: the loss does not depend on any trainable parameter".into())
        })?;
        let mut nodes = std::mem::take(&mut *self.nodes.borrow_mut());
        let mut grads = Grads { slots: (0..nodes.len()).map(|_| None).collect(), ready };
        grads.add(Some(start), grad)?;
        for i in (0..=start).rev() {
            let Some(back) = nodes[i].take() else { continue };
            if let Some(grad) = grads.slots[i].take() {
                back(grad, &mut grads)?;
            }
        }
        Ok(grads)
    }
}

/// What a training forward pass carries: the tape and the keys of its dropout masks.
pub struct TrainContext<'a> {
    tape: &'a Tape,
    seed: u64,
    step: u64,
    calls: Cell<u64>,
}

impl<'a> TrainContext<'a> {
    /// A pass of step `step` under `seed`; both fix every dropout mask.
    pub fn new(tape: &'a Tape, seed: u64, step: u64) -> Self {
        Self::for_chunk(tape, seed, step, 0)
    }
    /// Part number `part` of a pass that is done in parts; each has its own masks.
    pub fn for_chunk(tape: &'a Tape, seed: u64, step: u64, part: u64) -> Self {
        Self { tape, seed, step, calls: Cell::new(part << 32) }
    }
}

/// Whether a forward pass records, and how its operations are computed. No global flag, no hidden randomness.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    train: Option<&'a TrainContext<'a>>,
    record: bool,
    composed: bool,
}

impl<'a> Pass<'a> {
    /// No gradient, no dropout.
    pub fn eval() -> Pass<'static> {
        Pass { train: None, record: false, composed: false }
    }
    /// Records on the tape of `train`, with dropout.
    pub fn train(train: &'a TrainContext<'a>) -> Self {
        Pass { train: Some(train), record: true, composed: false }
    }
    /// With the dropout masks of `train`, but without recording: the values a recorded pass will have.
    pub fn train_without_tape(train: &'a TrainContext<'a>) -> Self {
        Pass { record: false, ..Self::train(train) }
    }
    /// The same pass through candle's operations even on a CPU (the path other devices take).
    pub fn composed(self) -> Self {
        Pass { composed: true, ..self }
    }
    /// Whether this pass trains.
    pub fn is_train(&self) -> bool {
        self.train.is_some()
    }
    /// Whether to use the fused CPU operations for a value on `device`.
    pub fn fused(&self, device: &Device) -> bool {
        device.is_cpu() && !self.composed
    }
    /// Key of the next dropout mask, or `None` when nothing is dropped.
    pub fn dropout_key(&self, p: f32) -> Option<u64> {
        let train = self.train.filter(|_| p > 0.0)?;
        let call = train.calls.replace(train.calls.get() + 1);
        Some(rng::dropout_key(train.seed, train.step, call))
    }
    /// Whether an operation over inputs of which some are `tracked` has to record itself.
    pub fn records(&self, tracked: bool) -> bool {
        self.record && tracked
    }
    /// Whether an operation has to record itself; if so its `weights` wait for the gradient it will add, and the
    /// backward has to end with [`Grads::done`] of the same.
    pub fn records_with<'w>(&self, tracked: bool, weights: impl IntoIterator<Item = &'w Weight>) -> bool {
        let weights: Vec<&Weight> = weights.into_iter().collect();
        let records = self.records(tracked || weights.iter().any(|w| w.trains()));
        if records {
            weights.iter().for_each(|w| w.add_use());
        }
        records
    }
    /// The result of an operation; `back` is kept when it has to be.
    pub fn result(&self, value: Tensor, back: Option<impl FnOnce(Tensor, &mut Grads) -> Result<()> + 'static>) -> Act {
        match (self.train, back) {
            (Some(train), Some(back)) => train.tape.push(value, Box::new(back)),
            _ => Act::constant(value),
        }
    }
}
