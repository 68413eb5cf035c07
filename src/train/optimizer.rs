//! AdamW (Loshchilov & Hutter 2019), PyTorch's arithmetic, one pass over memory; moments are ours to save.

use crate::error::{Error, Result};
use crate::nn::host;
use crate::nn::kernels::{AdamStep, CHUNK, adamw, sum_squares};
use crate::nn::weights::{self, Weights};
use crate::nn::{Param, Params};
use candle_core::Tensor;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPS: f64 = 1e-8;

enum Moments {
    Host(Vec<f32>, Vec<f32>),
    Device(Tensor, Tensor),
}

/// The optimiser's state: step count and two moments a trainable parameter.
#[derive(Default)]
pub struct AdamW {
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// Norm of the whole gradient; a non-finite one is an error that names its parameter.
    pub fn norm(params: &Params) -> Result<f64> {
        let mut total = 0f64;
        for p in params.trainable() {
            let g = p.grad();
            let sq = match g.device() {
                Some(t) => f64::from(t.sqr()?.sum_all()?.to_scalar::<f32>()?),
                None => {
                    let parts: Vec<f64> = g.data().par_chunks(CHUNK).map(sum_squares).collect();
                    parts.iter().sum()
                }
            };
            if !sq.is_finite() {
                return Err(Error::Numeric(format!(
                    "the gradient of `{}` is not finite; lower train.lr, or set train.clip",
                    p.name()
                )));
            }
            total += sq;
        }
        Ok(total.sqrt())
    }
    /// One step: `lr(parameter)` and decoupled `weight_decay`, the gradient scaled by `scale`.
    pub fn step(&mut self, params: &Params, lr: impl Fn(&Param) -> f64, weight_decay: f64, scale: f64) -> Result<()> {
        self.steps += 1;
        let t = self.steps as i32;
        let (bias1, bias2) = (1.0 / (1.0 - BETA1.powi(t)), (1.0 / (1.0 - BETA2.powi(t))).sqrt());
        for p in params.trainable() {
            let lr = lr(p);
            let g = p.grad();
            if let Some(grad) = g.device() {
                self.step_on_device(p, grad, lr, weight_decay, scale, bias1, bias2)?;
                continue;
            }
            let s = AdamStep {
                lr: lr as f32,
                beta1: BETA1 as f32,
                beta2: BETA2 as f32,
                eps: EPS as f32,
                decay: (1.0 - lr * weight_decay) as f32,
                bias1: bias1 as f32,
                bias2: bias2 as f32,
                scale: scale as f32,
            };
            let grad = g.data();
            if grad.is_empty() {
                continue;
            }
            let slot = self
                .moments
                .entry(p.name().into())
                .or_insert_with(|| Moments::Host(vec![0.0; p.numel()], vec![0.0; p.numel()]));
            let Moments::Host(m, v) = slot else { continue };
            host::update(&p.value(), |w| {
                w.par_chunks_mut(CHUNK)
                    .zip(grad.par_chunks(CHUNK))
                    .zip(m.par_chunks_mut(CHUNK))
                    .zip(v.par_chunks_mut(CHUNK))
                    .for_each(|(((w, g), m), v)| adamw(s, w, g, m, v));
            })?;
        }
        Ok(())
    }
    fn step_on_device(&mut self, p: &Param, g: &Tensor, lr: f64, wd: f64, scale: f64, b1: f64, b2: f64) -> Result<()> {
        let zero = || -> Result<Moments> { Ok(Moments::Device(g.zeros_like()?, g.zeros_like()?)) };
        let (m, v) = match self.moments.remove(p.name()).map_or_else(zero, Ok)? {
            Moments::Device(m, v) => (m, v),
            Moments::Host(m, v) => {
                (Tensor::from_vec(m, p.shape(), g.device())?, Tensor::from_vec(v, p.shape(), g.device())?)
            }
        };
        let g = (g * scale)?;
        let m = ((m * BETA1)? + (&g * (1.0 - BETA1))?)?;
        let v = ((v * BETA2)? + (g.sqr()? * (1.0 - BETA2))?)?;
        let step = ((&m * b1)? / ((v.sqrt()? * b2)? + EPS)?)?;
        p.set(&((p.value() * (1.0 - lr * wd))? - (step * lr)?)?)?;
        self.moments.insert(p.name().into(), Moments::Device(m, v));
        Ok(())
    }
    /// Saves the moments for a checkpoint: `m/<name>` and `v/<name>`.
    pub fn save(&self, path: &Path, params: &Params) -> Result<()> {
        let shape = |n: &String| params.get(n).map(|p| p.shape().to_vec()).unwrap_or_default();
        let of = |tag: &str| self.moments.keys().map(|n| (format!("{tag}/{n}"), shape(n))).collect::<Vec<_>>();
        let all: Vec<&Moments> = self.moments.values().chain(self.moments.values()).collect();
        let entries = [of("m"), of("v")].concat();
        weights::save_each(path, &entries, BTreeMap::new(), |i| {
            Ok(match (all[i], i < self.moments.len()) {
                (Moments::Host(m, _), true) => m.as_slice().into(),
                (Moments::Host(_, v), false) => v.as_slice().into(),
                (Moments::Device(m, _), true) => host::to_vec(m)?.into(),
                (Moments::Device(_, v), false) => host::to_vec(v)?.into(),
            })
        })
    }
    /// Restores what [`AdamW::save`] saved.
    pub fn restore(&mut self, steps: u64, saved: &Weights, params: &Params) -> Result<()> {
        self.steps = steps;
        self.moments.clear();
        for p in params.trainable() {
            let (m, v) = (format!("m/{}", p.name()), format!("v/{}", p.name()));
            if saved.shape(&m) != Some(p.shape()) || saved.shape(&v) != Some(p.shape()) {
                let text = format!("no optimiser state for `{}`; the run's settings have changed", p.name());
                return Err(Error::model(saved.path(), text));
            }
            self.moments.insert(p.name().into(), Moments::Host(saved.read(&m)?, saved.read(&v)?));
        }
        Ok(())
    }
}
