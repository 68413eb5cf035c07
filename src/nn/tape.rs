//! The tape: the list of backward steps of a forward pass, run once, from the last to the first.
//!
//! candle's own graph allocates zeros and an addition for every edge and keeps every activation until the loss is
//! dropped. Here the first gradient of a node is moved in, parameter gradients go straight into the parameters'
//! buffers, and each node is freed as soon as its backward step has run.

use crate::error::{Error, Result};
use crate::nn::kernels;
use crate::nn::params::Weight;
use crate::rng;
use candle_core::{Device, Tensor};
use std::cell::{Cell, RefCell};

type Back = Box<dyn FnOnce(Tensor, &mut Grads) -> Result<()>>;

/// An activation. `node` is its index on the tape, or `None` for a constant.
#[derive(Clone, Debug)]
pub struct Act {
    value: Tensor,
    node: Option<usize>,
}

impl Act {
    /// Wraps a value that gets no gradient.
    pub fn constant(value: Tensor) -> Self {
        Self { value, node: None }
    }
    /// The activation's value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }
    /// Whether the backward pass computes a gradient for this activation.
    pub fn tracked(&self) -> bool {
        self.node.is_some()
    }
    /// Index on the tape to which [`Grads::add`] adds this activation's gradient.
    pub fn node(&self) -> Option<usize> {
        self.node
    }
    /// Shape as (rows, columns); an error if the value is not a matrix.
    pub fn dims2(&self) -> Result<(usize, usize)> {
        Ok(self.value.dims2()?)
    }
}

/// Gradients of activations during the backward pass.
pub struct Grads<'a> {
    slots: Vec<Option<Tensor>>,
    ready: Option<OnGradient<'a>>,
}

/// Callback that gets each trainable parameter as soon as its gradient is complete.
pub type OnGradient<'a> = &'a mut dyn FnMut(&Weight) -> Result<()>;

impl Grads<'_> {
    /// Marks that an operation has added its part to the gradients of `weights`; calls the callback for each complete
    /// one.
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
    /// Adds `grad` to the gradient of tape node `node`; does nothing for a constant (`None`).
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
    /// The gradient of a leaf, available after [`Tape::backward`].
    pub fn of(&self, leaf: &Act) -> Option<&Tensor> {
        leaf.node.and_then(|n| self.slots[n].as_ref())
    }
}

/// Records backward steps during the forward pass.
#[derive(Default)]
pub struct Tape {
    nodes: RefCell<Vec<Option<Back>>>,
}

impl Tape {
    /// Creates an empty tape.
    pub fn new() -> Self {
        Self::default()
    }
    /// Adds a leaf: a value whose gradient can be read after [`Tape::backward`].
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
    /// Runs the backward pass from the scalar `loss`, multiplied by `scale`. The tape is empty afterwards.
    pub fn backward(&self, loss: &Act, scale: f64) -> Result<Grads<'static>> {
        let one = Tensor::full(scale as f32, loss.value.shape(), loss.value.device())?;
        self.backward_from(loss, one)
    }
    /// Runs the backward pass from any activation, given the gradient of the loss with respect to it.
    pub fn backward_from(&self, out: &Act, grad: Tensor) -> Result<Grads<'static>> {
        self.backward_with(out, grad, None)
    }
    /// As [`Tape::backward_from`], with the callback `ready`. It may consume a parameter's gradient and change the
    /// parameter's value while the backward pass runs, because no remaining operation reads that parameter.
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

/// State of a training forward pass: the tape and the keys of its dropout masks.
pub struct TrainContext<'a> {
    tape: &'a Tape,
    seed: u64,
    step: u64,
    calls: Cell<u64>,
}

impl<'a> TrainContext<'a> {
    /// Context of step `step` under `seed`; the two numbers determine every dropout mask.
    pub fn new(tape: &'a Tape, seed: u64, step: u64) -> Self {
        Self::for_chunk(tape, seed, step, 0)
    }
    /// Context of chunk `part` of a step that runs in several chunks; each chunk has its own dropout masks.
    pub fn for_chunk(tape: &'a Tape, seed: u64, step: u64, part: u64) -> Self {
        Self { tape, seed, step, calls: Cell::new(part << 32) }
    }
}

/// Mode of a forward pass: whether it records on a tape, and how its operations are computed. It uses no global flag
/// and no hidden random state.
#[derive(Clone, Copy)]
pub struct Pass<'a> {
    train: Option<&'a TrainContext<'a>>,
    record: bool,
    composed: bool,
}

impl<'a> Pass<'a> {
    /// Evaluation: no gradient, no dropout.
    pub fn eval() -> Pass<'static> {
        Pass { train: None, record: false, composed: false }
    }
    /// Training: records on the tape of `train`, with dropout.
    pub fn train(train: &'a TrainContext<'a>) -> Self {
        Pass { train: Some(train), record: true, composed: false }
    }
    /// Uses the dropout masks of `train` without recording; the values equal those of the recorded pass.
    pub fn train_without_tape(train: &'a TrainContext<'a>) -> Self {
        Pass { record: false, ..Self::train(train) }
    }
    /// The same mode computed by candle's operations even on a CPU, as on other devices.
    pub fn composed(self) -> Self {
        Pass { composed: true, ..self }
    }
    /// Whether this is a training pass.
    pub fn is_train(&self) -> bool {
        self.train.is_some()
    }
    /// Whether a value on `device` is computed by the fused CPU operations.
    pub fn fused(&self, device: &Device) -> bool {
        device.is_cpu() && !self.composed
    }
    /// Key of the next dropout mask, or `None` if nothing is dropped.
    pub fn dropout_key(&self, p: f32) -> Option<u64> {
        let train = self.train.filter(|_| p > 0.0)?;
        let call = train.calls.replace(train.calls.get() + 1);
        Some(rng::dropout_key(train.seed, train.step, call))
    }
    /// Whether an operation must be recorded, given that some of its inputs are `tracked`.
    pub fn records(&self, tracked: bool) -> bool {
        self.record && tracked
    }
    /// Whether an operation with these `weights` must be recorded. If so, each weight counts one more pending gradient,
    /// and the backward step must end with [`Grads::done`] for the same weights.
    pub fn records_with<'w>(&self, tracked: bool, weights: impl IntoIterator<Item = &'w Weight>) -> bool {
        let weights: Vec<&Weight> = weights.into_iter().collect();
        let records = self.records(tracked || weights.iter().any(|w| w.trains()));
        if records {
            weights.iter().for_each(|w| w.add_use());
        }
        records
    }
    /// Wraps the result of an operation, and records `back` on the tape if it is given.
    pub fn result(&self, value: Tensor, back: Option<impl FnOnce(Tensor, &mut Grads) -> Result<()> + 'static>) -> Act {
        match (self.train, back) {
            (Some(train), Some(back)) => train.tape.push(value, Box::new(back)),
            _ => Act::constant(value),
        }
    }
}
