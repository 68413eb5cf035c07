//! Parameters of a model, in name order: value, trainable or frozen, learning rate, origin, gradient buffer.
//!
//! A model is built by a function of a [`Scope`]. Run with [`Params::declare`], the function only lists the parameters
//! it needs. A plan then decides for each name where the value comes from and whether it is trainable, and
//! [`Params::build`] runs the function again to create them.

use crate::error::{Error, Result};
use crate::nn::adapter::AdapterSpec;
use crate::nn::grad_buf::GradBuf;
use crate::nn::init::Init;
use crate::nn::lazy_value::LazyValue;
use crate::nn::weights::Weights;
use candle_core::{Device, Tensor, Var};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// Where a parameter's value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Drawn from the seed and the parameter's name.
    Init,
    /// Loaded from the pre-trained encoder's folder.
    Pretrained,
    /// Loaded from a checkpoint of this crate (resumed, evaluated, or the source of a transfer).
    Source,
}

/// Declaration of one parameter by a model.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Full dotted name.
    pub name: String,
    /// Shape of the parameter.
    pub shape: Vec<usize>,
    /// Whether it is part of a pre-trained encoder, which has its own learning rate.
    pub encoder: bool,
    /// Whether the pre-trained folder contains it in this shape.
    pub pretrained: bool,
    /// Whether it is a buffer (a statistic), which gets no gradient.
    pub buffer: bool,
    /// Whether it is part of an adapter.
    pub added: bool,
    /// Whether it is the gain or shift of a norm.
    pub norm: bool,
}

/// Decision of a transfer plan for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    /// Source of the value.
    pub origin: Origin,
    /// Whether the parameter is trainable.
    pub train: bool,
    /// Learning rate of this parameter, in place of its group's.
    pub lr: Option<f64>,
}

/// Decision for each parameter name.
pub type Resolved = BTreeMap<String, Action>;

/// One parameter of a built model.
pub struct Param {
    name: String,
    shape: Vec<usize>,
    held: LazyValue,
    encoder: bool,
    added: bool,
    buffer: bool,
    action: Action,
    grad: Mutex<GradBuf>,
    /// Number of recorded operations whose backward step has not yet added to the gradient.
    uses: AtomicU32,
}

/// Shared handle to a parameter, as stored in layers.
pub type Weight = Arc<Param>;

impl Param {
    /// Full dotted name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Shape of the parameter.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
    /// The value as a tensor without candle's gradient tracking; loads it if needed.
    pub fn value(&self) -> Tensor {
        self.held.value()
    }
    /// Overwrites the value.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        self.held.set(value)
    }
    /// Frees the value's memory until it is next used, if the parameter is frozen and its file contains the same value.
    pub fn unload(&self) {
        if !self.trains() {
            self.held.unload();
        }
    }
    /// SHA-256 of the value as little-endian F32.
    pub fn digest(&self) -> Result<String> {
        self.held.digest()
    }
    /// Whether the parameter is trainable.
    pub fn trains(&self) -> bool {
        self.action.train
    }
    /// Learning rate of this parameter, if it differs from its group's.
    pub fn lr(&self) -> Option<f64> {
        self.action.lr
    }
    /// Whether the parameter is part of a pre-trained encoder.
    pub fn is_encoder(&self) -> bool {
        self.encoder
    }
    /// Whether the parameter is part of an adapter.
    pub fn is_adapter(&self) -> bool {
        self.added
    }
    /// Whether training changes the value: the parameter is trainable, or a buffer.
    pub fn is_updated(&self) -> bool {
        self.action.train || self.buffer
    }
    /// Whether the value differs, or may come to differ, from the one loaded from the source checkpoint.
    pub fn differs_from_source(&self) -> bool {
        self.is_updated() || self.action.origin != Origin::Source
    }
    /// Where the value came from.
    pub fn origin(&self) -> Origin {
        self.action.origin
    }
    /// Locks and returns the gradient buffer.
    pub fn grad(&self) -> MutexGuard<'_, GradBuf> {
        self.grad.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// Calls `write(buffer, beta)`, which must write (beta = 0) or add (beta = 1) a dense gradient. Does nothing for a
    /// frozen parameter.
    pub fn add_grad(&self, write: impl FnOnce(&mut [f32], f32)) {
        if self.trains() {
            self.grad().write(write);
        }
    }
    /// Adds the rows of `grad` (ids.len(), d) to the rows `ids` of the gradient; other rows are not touched. Does
    /// nothing for a frozen parameter.
    pub fn add_grad_rows(&self, ids: &[u32], d: usize, grad: &[f32]) {
        if self.trains() {
            self.grad().add_rows(ids, d, grad);
        }
    }
    /// Adds a gradient given as a tensor, on any device.
    pub fn add_grad_tensor(&self, grad: &Tensor) -> Result<()> {
        if !grad.device().is_cpu() {
            return Ok(self.grad().add_on_device(grad)?);
        }
        let grad = grad.contiguous()?;
        let h = crate::nn::host::host(&grad)?;
        self.add_grad(|buf, beta| {
            if beta == 0.0 {
                buf.copy_from_slice(&h);
            } else {
                crate::nn::kernels::add_assign(buf, &h);
            }
        });
        Ok(())
    }
    /// Clears the gradient and keeps its memory for the next step.
    pub fn clear_grad(&self) {
        self.grad().clear();
        self.uses.store(0, Ordering::Relaxed);
    }
    /// Frees the memory of a gradient that has been used.
    pub fn release_grad(&self) {
        self.grad().release();
    }
    /// Counts a recorded operation that will add to the gradient.
    pub(super) fn add_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }
    /// Marks that a recorded operation has added its part; returns whether it was the last one.
    pub(super) fn release_use(&self) -> bool {
        let before = self.uses.load(Ordering::Relaxed);
        self.uses.store(before.saturating_sub(1), Ordering::Relaxed);
        before == 1
    }
}

enum Mode<'a> {
    Declare,
    Build { seed: u64, device: Device, actions: &'a Resolved, source: Option<&'a Weights> },
}

struct State<'a> {
    mode: Mode<'a>,
    specs: Vec<Spec>,
    params: BTreeMap<String, Weight>,
}

/// Tensors of a pre-trained encoder, looked up by the names of this crate's parameters.
#[derive(Clone)]
struct Pretrained {
    weights: Arc<Weights>,
    /// Maps a parameter name relative to the scope to its possible names in the file.
    rename: Rc<dyn Fn(&str) -> Vec<String>>,
    base: String,
}

/// A position in the tree of parameter names, from which a model declares its parameters.
#[derive(Clone)]
pub struct Scope<'a, 's> {
    state: &'s RefCell<State<'a>>,
    prefix: String,
    encoder: bool,
    added: bool,
    norm: bool,
    pretrained: Option<Pretrained>,
    adapt: Option<AdapterSpec>,
    /// Prefix of parameters that several adapters share.
    root: String,
}

impl<'a, 's> Scope<'a, 's> {
    fn whole(state: &'s RefCell<State<'a>>) -> Self {
        let (prefix, root) = (String::new(), String::new());
        Self { state, prefix, encoder: false, added: false, norm: false, pretrained: None, adapt: None, root }
    }
    /// The sub-scope `name`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Self { prefix, ..self.clone() }
    }
    /// Scope whose parameters belong to a pre-trained encoder, which has its own learning-rate group.
    pub fn encoder(&self) -> Self {
        Self { encoder: true, root: self.prefix.clone(), ..self.clone() }
    }
    /// Scope whose parameters belong to an adapter: no pre-trained values, not in the encoder's learning-rate group.
    pub fn mark_adapter(&self) -> Self {
        Self { encoder: false, added: true, pretrained: None, ..self.clone() }
    }
    /// Scope that takes values from `weights`; `rename` lists the names that a parameter (relative to this scope) may
    /// have there.
    pub fn pretrained(&self, weights: Arc<Weights>, rename: impl Fn(&str) -> Vec<String> + 'static) -> Self {
        let p = Pretrained { weights, rename: Rc::new(rename), base: self.prefix.clone() };
        Self { pretrained: Some(p), ..self.clone() }
    }
    /// Scope whose parameters are gain and shift of a norm.
    pub fn normal(&self) -> Self {
        Self { norm: true, ..self.clone() }
    }
    /// Scope whose layers get adapters of the given settings, or none.
    pub fn adapted(&self, adapt: Option<AdapterSpec>) -> Self {
        Self { adapt, root: self.prefix.clone(), ..self.clone() }
    }
    /// Scope of block `i` of `blocks`; drops the adapter settings if only later blocks get adapters.
    pub fn within(&self, i: usize, blocks: usize) -> Self {
        let adapt = self.adapt.filter(|a| i >= a.first(blocks));
        Self { adapt, ..self.clone() }
    }
    /// Adapter settings for the layers of this scope.
    pub fn adapter(&self) -> Option<AdapterSpec> {
        self.adapt
    }
    /// Device on which the parameters are created.
    pub fn device(&self) -> Device {
        match &self.state.borrow().mode {
            Mode::Declare => Device::Cpu,
            Mode::Build { device, .. } => device.clone(),
        }
    }
    fn lookup(&self, full: &str) -> Option<(Arc<Weights>, String)> {
        let p = self.pretrained.as_ref()?;
        let short = full.strip_prefix(&p.base)?.trim_start_matches('.');
        (p.rename)(short).into_iter().find(|n| p.weights.shape(n).is_some()).map(|n| (p.weights.clone(), n))
    }
    /// Declares a parameter. Declaring the same name twice is an error.
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        self.declare(name, shape, init, false)
    }
    /// Declares a buffer: a value stored with the parameters that gets no gradient (running statistics).
    pub fn buffer(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        self.declare(name, shape, init, true)
    }
    /// Declares a parameter that all layers of this model part share: the first call creates it, later calls return it.
    pub fn shared(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        let at = Self { prefix: self.root.clone(), ..self.clone() };
        let known = self.state.borrow().params.get(&format!("{}.{name}", at.prefix)).cloned();
        known.map_or_else(|| at.weight(name, shape, init), Ok)
    }
    fn declare(&self, name: &str, shape: &[usize], init: Init, buffer: bool) -> Result<Weight> {
        let full = if self.prefix.is_empty() { name.into() } else { format!("{}.{name}", self.prefix) };
        let found = self.lookup(&full);
        if let Some((w, n)) = &found
            && w.shape(n) != Some(shape)
        {
            let have = w.shape(n).unwrap_or_default();
            return Err(Error::model(
                w.path(),
                format!("tensor `{n}` is {have:?}, its config.json asks for {shape:?}"),
            ));
        }
        let pretrained = found.is_some();
        let spec = Spec {
            name: full.clone(),
            shape: shape.into(),
            encoder: self.encoder,
            pretrained,
            buffer,
            added: self.added,
            norm: self.norm && !buffer,
        };
        let mut state = self.state.borrow_mut();
        if state.params.contains_key(&full) {
            return Err(Error::config("model", format!("two parameters are called `{full}`")));
        }
        let (held, action) = match &state.mode {
            Mode::Declare => {
                let action = Action { origin: Origin::Init, train: false, lr: None };
                (LazyValue::in_memory(Var::zeros(0, candle_core::DType::F32, &Device::Cpu)?), action)
            }
            Mode::Build { seed, device, actions, source } => {
                let action = *actions
                    .get(&full)
                    .ok_or_else(|| Error::config("transfer", format!("the plan does not cover `{full}`")))?;
                let train = action.train && !buffer;
                // A frozen value stays in its file until it is needed.
                let waits = device.is_cpu() && !train && !buffer;
                let loaded =
                    |values: Vec<f32>| Ok::<_, Error>(LazyValue::in_memory(Var::from_vec(values, shape, device)?));
                let from = |w: &Weights, n: &str| {
                    let stored = w.stored(n)?;
                    if waits { Ok(LazyValue::in_file(stored)) } else { loaded(stored.read()) }
                };
                let held = match (action.origin, &found, source) {
                    (Origin::Init, ..) => loaded(init.draw(*seed, &full, shape))?,
                    (Origin::Pretrained, Some((w, n)), _) => from(w, n)?,
                    (Origin::Pretrained, None, _) if self.pretrained.is_some() => {
                        let path = self.pretrained.as_ref().map_or(Path::new(""), |p| p.weights.path());
                        return Err(Error::model(
                            path,
                            format!("no tensor for `{full}`, which its config.json asks for"),
                        ));
                    }
                    (Origin::Pretrained, None, _) => {
                        return Err(Error::config("transfer", format!("`{full}` has no pre-trained value to load")));
                    }
                    (Origin::Source, _, Some(w)) => {
                        if w.shape(&full) != Some(shape) {
                            let have = w.shape(&full).map_or("absent".into(), |s| format!("{s:?}"));
                            return Err(Error::model(
                                w.path(),
                                format!("`{full}` is {have}, the model asks for {shape:?}"),
                            ));
                        }
                        from(w, &full)?
                    }
                    (Origin::Source, _, None) => {
                        return Err(Error::config(
                            "transfer",
                            format!("`{full}` is to be loaded, but there is no source"),
                        ));
                    }
                };
                (held, Action { train, ..action })
            }
        };
        let param = Arc::new(Param {
            name: full.clone(),
            shape: shape.into(),
            held,
            encoder: self.encoder,
            added: self.added,
            buffer,
            action,
            grad: Mutex::new(GradBuf::new(shape.iter().product())),
            uses: AtomicU32::new(0),
        });
        state.specs.push(spec);
        state.params.insert(full, param.clone());
        Ok(param)
    }
}

/// All parameters of a model, in name order.
pub struct Params {
    by_name: BTreeMap<String, Weight>,
}

impl Params {
    /// Lists the parameters a model needs, without allocating them.
    pub fn declare<M>(model: impl FnOnce(&Scope) -> Result<M>) -> Result<Vec<Spec>> {
        let state = RefCell::new(State { mode: Mode::Declare, specs: vec![], params: BTreeMap::new() });
        model(&Scope::whole(&state))?;
        let mut specs = state.into_inner().specs;
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }
    /// Builds a model with values and trainable flags as given by `actions`.
    pub fn build<M>(
        seed: u64,
        device: &Device,
        actions: &Resolved,
        source: Option<&Weights>,
        model: impl FnOnce(&Scope) -> Result<M>,
    ) -> Result<(Self, M)> {
        let mode = Mode::Build { seed, device: device.clone(), actions, source };
        let state = RefCell::new(State { mode, specs: vec![], params: BTreeMap::new() });
        let model = model(&Scope::whole(&state))?;
        Ok((Self { by_name: state.into_inner().params }, model))
    }
    /// Builds a model with all parameters trainable: pre-trained where such a value exists, otherwise drawn at random.
    pub fn fresh<M>(seed: u64, device: &Device, model: impl Fn(&Scope) -> Result<M>) -> Result<(Self, M)> {
        let actions = Self::declare(&model)?
            .into_iter()
            .map(|s| {
                let origin = if s.pretrained { Origin::Pretrained } else { Origin::Init };
                (s.name, Action { origin, train: true, lr: None })
            })
            .collect();
        Self::build(seed, device, &actions, None, model)
    }
    /// Iterates over all parameters in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        self.by_name.values()
    }
    /// The parameter with this full name, if it exists.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.by_name.get(name)
    }
    /// Iterates over the trainable parameters in name order.
    pub fn trainable(&self) -> impl Iterator<Item = &Weight> {
        self.iter().filter(|p| p.trains())
    }
    /// Clears the gradients of all parameters.
    pub fn clear_grads(&self) {
        self.iter().for_each(|p| p.clear_grad());
    }
    /// Names of trainable parameters that received no gradient.
    pub fn without_grad(&self) -> Vec<&str> {
        self.trainable().filter(|p| !p.grad().has_gradient()).map(|p| p.name()).collect()
    }
    /// Saves all values as one safetensors file.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_some(path, |name| Some(name.into()))
    }
    /// Saves the values for which `name` returns a name, under that name.
    pub fn save_some(&self, path: &Path, name: impl Fn(&str) -> Option<String>) -> Result<()> {
        let named = |p: &'_ &Weight| name(p.name()).map(|n| (n, p.shape().to_vec()));
        let all: Vec<&Weight> = self.iter().filter(|p| named(p).is_some()).collect();
        let entries: Vec<_> = all.iter().filter_map(named).collect();
        let value = |i: usize| Ok(all[i].held.read()?.into());
        crate::nn::weights::save_each(path, &entries, crate::nn::weights::pytorch_metadata(), value)
    }
}
