//! Every parameter of a model, in name order: value, trainable or frozen, learning rate, origin, gradient buffer.
//!
//! A model is a function of a [`Scope`]. Run once with [`Params::declare`] it only lists what it needs; a plan then
//! says for each name where the value comes from and whether it trains; [`Params::build`] makes it so.

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

/// Where a parameter's value came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// Drawn from the seed and its name.
    Init,
    /// The pre-trained encoder's folder.
    Pretrained,
    /// A checkpoint of ours (resumed, evaluated, or the source of a transfer).
    Source,
}

/// What a model asks for.
#[derive(Debug, Clone)]
pub struct Spec {
    /// Full dotted name.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// Part of a pre-trained encoder (its own learning rate).
    pub encoder: bool,
    /// Whether the pre-trained folder has it, in this shape.
    pub pretrained: bool,
    /// A statistic, which no gradient ever reaches.
    pub buffer: bool,
    /// Part of an adapter.
    pub added: bool,
    /// A norm's gain or shift.
    pub norm: bool,
}

/// What a plan decided for one parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Action {
    /// Where the value comes from.
    pub origin: Origin,
    /// Whether it trains.
    pub train: bool,
    /// Its own learning rate instead of its group's.
    pub lr: Option<f64>,
}

/// A decision for each parameter name.
pub type Resolved = BTreeMap<String, Action>;

/// One parameter.
pub struct Param {
    name: String,
    shape: Vec<usize>,
    held: LazyValue,
    encoder: bool,
    added: bool,
    buffer: bool,
    action: Action,
    grad: Mutex<GradBuf>,
    /// Recorded operations whose backward has still to add to the gradient.
    uses: AtomicU32,
}

/// A shared handle; what layers hold.
pub type Weight = Arc<Param>;

impl Param {
    /// Full dotted name.
    pub fn name(&self) -> &str {
        &self.name
    }
    /// Shape.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().product()
    }
    /// The value, without gradient tracking by candle.
    pub fn value(&self) -> Tensor {
        self.held.value()
    }
    /// Overwrites the value.
    pub fn set(&self, value: &Tensor) -> Result<()> {
        self.held.set(value)
    }
    /// Gives its memory back until somebody asks for the value again, if it is frozen and stands unchanged in a file.
    pub fn unload(&self) {
        if !self.trains() {
            self.held.unload();
        }
    }
    /// SHA-256 of the value as little-endian F32.
    pub fn digest(&self) -> Result<String> {
        self.held.digest()
    }
    /// Whether it trains.
    pub fn trains(&self) -> bool {
        self.action.train
    }
    /// Its own learning rate, if it has one.
    pub fn lr(&self) -> Option<f64> {
        self.action.lr
    }
    /// Part of a pre-trained encoder.
    pub fn is_encoder(&self) -> bool {
        self.encoder
    }
    /// Part of an adapter.
    pub fn is_adapter(&self) -> bool {
        self.added
    }
    /// Whether training changes it.
    pub fn is_updated(&self) -> bool {
        self.action.train || self.buffer
    }
    /// Whether its value is not, or may not stay, the one that a source gave it.
    pub fn differs_from_source(&self) -> bool {
        self.is_updated() || self.action.origin != Origin::Source
    }
    /// Where its value came from.
    pub fn origin(&self) -> Origin {
        self.action.origin
    }
    /// The gradient buffer.
    pub fn grad(&self) -> MutexGuard<'_, GradBuf> {
        self.grad.lock().unwrap_or_else(|e| e.into_inner())
    }
    /// Lets `write(buffer, beta)` put (beta = 0) or add (beta = 1) a dense gradient. Nothing for a frozen parameter.
    pub fn add_grad(&self, write: impl FnOnce(&mut [f32], f32)) {
        if self.trains() {
            self.grad().write(write);
        }
    }
    /// Adds rows of `grad` (ids.len(), d) to the rows `ids` of the gradient; the others cost nothing.
    pub fn add_grad_rows(&self, ids: &[u32], d: usize, grad: &[f32]) {
        if self.trains() {
            self.grad().add_rows(ids, d, grad);
        }
    }
    /// Adds a gradient that lives on another device (or came from candle's own backward).
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
    /// Forgets the gradient, keeping its memory.
    pub fn clear_grad(&self) {
        self.grad().clear();
        self.uses.store(0, Ordering::Relaxed);
    }
    /// Gives the memory of a gradient back that has been used.
    pub fn release_grad(&self) {
        self.grad().release();
    }
    /// An operation that will add to the gradient was recorded.
    pub(super) fn add_use(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }
    /// Such an operation has added its part; whether it was the last.
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

/// A pre-trained encoder's tensors under the names our parameters have.
#[derive(Clone)]
struct Pretrained {
    weights: Arc<Weights>,
    /// our name below the scope → name in the file
    rename: Rc<dyn Fn(&str) -> Vec<String>>,
    base: String,
}

/// A place in the tree of names from which a model takes its parameters.
#[derive(Clone)]
pub struct Scope<'a, 's> {
    state: &'s RefCell<State<'a>>,
    prefix: String,
    encoder: bool,
    added: bool,
    norm: bool,
    pretrained: Option<Pretrained>,
    adapt: Option<AdapterSpec>,
    /// Where parameters stand that several adapters share.
    root: String,
}

impl<'a, 's> Scope<'a, 's> {
    fn whole(state: &'s RefCell<State<'a>>) -> Self {
        let (prefix, root) = (String::new(), String::new());
        Self { state, prefix, encoder: false, added: false, norm: false, pretrained: None, adapt: None, root }
    }
    /// The scope below `name`.
    pub fn pp(&self, name: impl std::fmt::Display) -> Self {
        let prefix = if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) };
        Self { prefix, ..self.clone() }
    }
    /// Parameters below belong to a pre-trained encoder: their own learning-rate group.
    pub fn encoder(&self) -> Self {
        Self { encoder: true, root: self.prefix.clone(), ..self.clone() }
    }
    /// Parameters below are parts of an adapter: no pre-trained values, not in the encoder's learning-rate group.
    pub fn mark_adapter(&self) -> Self {
        Self { encoder: false, added: true, pretrained: None, ..self.clone() }
    }
    /// Takes values from `weights`; `rename` lists the names a parameter (relative to this scope) may have there.
    pub fn pretrained(&self, weights: Arc<Weights>, rename: impl Fn(&str) -> Vec<String> + 'static) -> Self {
        let p = Pretrained { weights, rename: Rc::new(rename), base: self.prefix.clone() };
        Self { pretrained: Some(p), ..self.clone() }
    }
    /// Parameters below are a norm's.
    pub fn normal(&self) -> Self {
        Self { norm: true, ..self.clone() }
    }
    /// Adds small trainable parts to the layers below (or to none).
    pub fn adapted(&self, adapt: Option<AdapterSpec>) -> Self {
        Self { adapt, root: self.prefix.clone(), ..self.clone() }
    }
    /// The scope of block `i` of `blocks`: what is added to the last ones only is dropped below them.
    pub fn within(&self, i: usize, blocks: usize) -> Self {
        let adapt = self.adapt.filter(|a| i >= a.first(blocks));
        Self { adapt, ..self.clone() }
    }
    /// What is added to the layers below.
    pub fn adapter(&self) -> Option<AdapterSpec> {
        self.adapt
    }
    /// Where the parameters will live.
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
    /// A parameter. Asking twice for one name is an error in the model.
    pub fn weight(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        self.declare(name, shape, init, false)
    }
    /// A value that is kept with the parameters, but never trains (running statistics).
    pub fn buffer(&self, name: &str, shape: &[usize], init: Init) -> Result<Weight> {
        self.declare(name, shape, init, true)
    }
    /// A parameter of this model part that all who ask for it share.
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
                // What is frozen waits in its file until it is needed.
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
    /// Lists what a model needs, without allocating it.
    pub fn declare<M>(model: impl FnOnce(&Scope) -> Result<M>) -> Result<Vec<Spec>> {
        let state = RefCell::new(State { mode: Mode::Declare, specs: vec![], params: BTreeMap::new() });
        model(&Scope::whole(&state))?;
        let mut specs = state.into_inner().specs;
        specs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(specs)
    }
    /// Builds a model with the values and freedoms `actions` say.
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
    /// [`Params::build`] with everything trainable: pre-trained where there is such a value, else drawn.
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
    /// In name order.
    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        self.by_name.values()
    }
    /// By name.
    pub fn get(&self, name: &str) -> Option<&Weight> {
        self.by_name.get(name)
    }
    /// Trainable ones, in name order.
    pub fn trainable(&self) -> impl Iterator<Item = &Weight> {
        self.iter().filter(|p| p.trains())
    }
    /// Forgets all gradients.
    pub fn clear_grads(&self) {
        self.iter().for_each(|p| p.clear_grad());
    }
    /// Names of trainable parameters that no gradient reached.
    pub fn without_grad(&self) -> Vec<&str> {
        self.trainable().filter(|p| !p.grad().has_gradient()).map(|p| p.name()).collect()
    }
    /// Saves every value as safetensors.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.save_some(path, |name| Some(name.into()))
    }
    /// Saves those values that `name` gives a name in the file.
    pub fn save_some(&self, path: &Path, name: impl Fn(&str) -> Option<String>) -> Result<()> {
        let named = |p: &'_ &Weight| name(p.name()).map(|n| (n, p.shape().to_vec()));
        let all: Vec<&Weight> = self.iter().filter(|p| named(p).is_some()).collect();
        let entries: Vec<_> = all.iter().filter_map(named).collect();
        let value = |i: usize| Ok(all[i].held.read()?.into());
        crate::nn::weights::save_each(path, &entries, crate::nn::weights::pytorch_metadata(), value)
    }
}
