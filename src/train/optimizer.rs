//! AdamW (Loshchilov & Hutter 2019) with PyTorch's arithmetic, in one pass over memory, with moments that can be saved.

use crate::error::{Error, Result};
use crate::nn::grad_buf::{GradContent, Rows};
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
/// Rows of a table per parallel task.
const TABLE_ROWS: usize = 256;

enum Moments {
    Host {
        m: Vec<f32>,
        v: Vec<f32>,
        /// Whether each row of a table ever had a gradient; the moments of other rows are zero. Empty: all rows.
        touched: Vec<bool>,
    },
    Device(Tensor, Tensor),
}

/// AdamW's state: step count and two moments per trainable parameter.
#[derive(Default)]
pub struct AdamW {
    steps: u64,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// Number of optimiser steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }
    /// Norm of the gradient of all parameters; a non-finite gradient is an error that names its parameter.
    pub fn norm(params: &Params) -> Result<f64> {
        let mut total = 0f64;
        for p in params.trainable() {
            let of = |x: &[f32]| x.par_chunks(CHUNK).map(sum_squares).collect::<Vec<f64>>().iter().sum();
            let sq = match p.grad().content() {
                GradContent::Device(t) => f64::from(t.sqr()?.sum_all()?.to_scalar::<f32>()?),
                GradContent::Dense(g) => of(g),
                GradContent::Rows(r) => of(r.data()),
                GradContent::Nothing => 0.0,
            };
            total += finite(p, sq)?;
        }
        Ok(total.sqrt())
    }
    /// Updates all parameters with learning rates `lr(parameter)`, decoupled `weight_decay`, and gradients scaled by
    /// `scale`.
    pub fn step(&mut self, params: &Params, lr: impl Fn(&Param) -> f64, weight_decay: f64, scale: f64) -> Result<()> {
        self.begin();
        for p in params.trainable() {
            self.apply(p, lr(p), weight_decay, scale)?;
        }
        Ok(())
    }
    /// Starts a step whose parameters are updated individually with [`AdamW::apply`].
    pub fn begin(&mut self) {
        self.steps += 1;
    }
    /// Updates one parameter in the current step; a parameter without gradient is not changed. Returns the gradient's
    /// sum of squares before scaling; a non-finite gradient is an error that names the parameter.
    pub fn apply(&mut self, p: &Param, lr: f64, weight_decay: f64, scale: f64) -> Result<f64> {
        let t = self.steps as i32;
        let (bias1, bias2) = (1.0 / (1.0 - BETA1.powi(t)), (1.0 / (1.0 - BETA2.powi(t))).sqrt());
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
        let grad = p.grad();
        let content = grad.content();
        if let GradContent::Device(g) = content {
            let sq = f64::from(g.sqr()?.sum_all()?.to_scalar::<f32>()?);
            self.step_on_device(p, g, lr, weight_decay, scale, bias1, bias2)?;
            return finite(p, sq);
        }
        if matches!(content, GradContent::Nothing) {
            return Ok(0.0);
        }
        let slot = self.moments.entry(p.name().into()).or_insert_with(|| {
            // A table may have leading dimensions of 1 (ViT's positions).
            let rows = match content {
                GradContent::Rows(r) => p.numel() / r.width().max(1),
                _ => 0,
            };
            Moments::Host { m: vec![0.0; p.numel()], v: vec![0.0; p.numel()], touched: vec![false; rows] }
        });
        let Moments::Host { m, v, touched } = slot else { return Ok(0.0) };
        let mut squares = vec![];
        match content {
            GradContent::Rows(rows) if !touched.is_empty() => {
                host::update(&p.value(), |w| squares = step_rows(s, w, rows, m, v, touched))?;
            }
            _ => {
                touched.clear();
                let g = grad.dense();
                let g: &[f32] = &g;
                host::update(&p.value(), |w| {
                    w.par_chunks_mut(CHUNK)
                        .zip(g.par_chunks(CHUNK))
                        .zip(m.par_chunks_mut(CHUNK))
                        .zip(v.par_chunks_mut(CHUNK))
                        .map(|(((w, g), m), v)| {
                            adamw(s, w, g, m, v);
                            sum_squares(g)
                        })
                        .collect_into_vec(&mut squares);
                })?;
            }
        }
        finite(p, squares.iter().sum())
    }
    fn step_on_device(&mut self, p: &Param, g: &Tensor, lr: f64, wd: f64, scale: f64, b1: f64, b2: f64) -> Result<()> {
        let zero = || -> Result<Moments> { Ok(Moments::Device(g.zeros_like()?, g.zeros_like()?)) };
        let (m, v) = match self.moments.remove(p.name()).map_or_else(zero, Ok)? {
            Moments::Device(m, v) => (m, v),
            Moments::Host { m, v, .. } => {
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
    /// Saves the moments as tensors `m/<name>` and `v/<name>`.
    pub fn save(&self, path: &Path, params: &Params) -> Result<()> {
        let shape = |n: &String| params.get(n).map(|p| p.shape().to_vec()).unwrap_or_default();
        let of = |tag: &str| self.moments.keys().map(|n| (format!("{tag}/{n}"), shape(n))).collect::<Vec<_>>();
        let all: Vec<&Moments> = self.moments.values().chain(self.moments.values()).collect();
        let entries = [of("m"), of("v")].concat();
        weights::save_each(path, &entries, BTreeMap::new(), |i| {
            Ok(match (all[i], i < self.moments.len()) {
                (Moments::Host { m, .. }, true) => m.as_slice().into(),
                (Moments::Host { v, .. }, false) => v.as_slice().into(),
                (Moments::Device(m, _), true) => host::to_vec(m)?.into(),
                (Moments::Device(_, v), false) => host::to_vec(v)?.into(),
            })
        })
    }
    /// Restores moments saved by [`AdamW::save`].
    pub fn restore(&mut self, steps: u64, saved: &Weights, params: &Params) -> Result<()> {
        self.steps = steps;
        self.moments.clear();
        for p in params.trainable() {
            let (m, v) = (format!("m/{}", p.name()), format!("v/{}", p.name()));
            if saved.shape(&m) != Some(p.shape()) || saved.shape(&v) != Some(p.shape()) {
                let text = format!("no optimiser state for `{}`; the run's settings have changed", p.name());
                return Err(Error::model(saved.path(), text));
            }
            let (m, v) = (saved.read(&m)?, saved.read(&v)?);
            let touched = match p.shape() {
                [.., _, width] if *width > 0 => {
                    let some = |i: usize| v[i * width..(i + 1) * width].iter().any(|x| *x != 0.0);
                    let any = |i: usize| some(i) || m[i * width..(i + 1) * width].iter().any(|x| *x != 0.0);
                    (0..p.numel() / width).map(any).collect()
                }
                _ => vec![],
            };
            self.moments.insert(p.name().into(), Moments::Host { m, v, touched });
        }
        Ok(())
    }
}

fn finite(p: &Param, squares: f64) -> Result<f64> {
    if squares.is_finite() {
        return Ok(squares);
    }
    Err(Error::Numeric(format!("the gradient of `{}` is not finite; lower train.lr, or set train.clip", p.name())))
}

/// Updates a table of which some rows have a gradient. Rows that never had one have zero moments, so AdamW only decays
/// them.
fn step_rows(s: AdamStep, w: &mut [f32], rows: &Rows, m: &mut [f32], v: &mut [f32], touched: &mut [bool]) -> Vec<f64> {
    let width = rows.width();
    let zero = vec![0f32; width];
    let mut squares = vec![];
    w.par_chunks_mut(width * TABLE_ROWS)
        .zip(m.par_chunks_mut(width * TABLE_ROWS))
        .zip(v.par_chunks_mut(width * TABLE_ROWS))
        .zip(touched.par_chunks_mut(TABLE_ROWS))
        .enumerate()
        .map(|(block, (((w, m), v), touched))| {
            let mut total = 0f64;
            for (i, touched) in touched.iter_mut().enumerate() {
                let at = i * width..(i + 1) * width;
                let (w, m, v) = (&mut w[at.clone()], &mut m[at.clone()], &mut v[at]);
                match rows.row(block * TABLE_ROWS + i) {
                    Some(g) => {
                        *touched = true;
                        total += sum_squares(g);
                        adamw(s, w, g, m, v);
                    }
                    None if *touched => adamw(s, w, &zero, m, v),
                    None if s.decay != 1.0 => w.iter_mut().for_each(|w| *w *= s.decay),
                    None => {}
                }
            }
            total
        })
        .collect_into_vec(&mut squares);
    squares
}
