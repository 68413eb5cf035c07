//! Finite differences, and the comparison of the fused with the composed path.

use candle_core::{Device, Tensor};
use morec::nn::{Act, Params, Pass, Tape, TrainContext};
use morec::rng::Stream;
use morec::{Error, Result};

/// Standard normal values, the same in every run.
pub fn random(name: &str, n: usize) -> Vec<f32> {
    let mut s = Stream::new(11, name);
    (0..n).map(|_| s.normal() as f32).collect()
}

/// A (rows, cols) tensor of [`random`] values.
pub fn matrix(name: &str, rows: usize, cols: usize) -> Tensor {
    Tensor::from_vec(random(name, rows * cols), (rows, cols), &Device::Cpu).unwrap()
}

/// Puts noise on every parameter, so that ones and zeros of the initialisation hide nothing.
pub fn perturb(params: &Params, sigma: f32) {
    for p in params.iter() {
        let noise = Tensor::from_vec(random(p.name(), p.numel()), p.shape(), &Device::Cpu).unwrap();
        p.set(&(p.value() + (noise * f64::from(sigma)).unwrap()).unwrap()).unwrap();
    }
}

type Forward<'f> = &'f dyn Fn(&Pass, &[Act]) -> Result<Act>;

struct Outcome {
    out: Vec<f32>,
    inputs: Vec<Vec<f32>>,
    params: Vec<(String, Vec<f32>)>,
}

fn flat(t: &Tensor) -> Vec<f32> {
    t.flatten_all().unwrap().to_vec1().unwrap()
}

fn probe_of(t: &Tensor) -> Tensor {
    Tensor::from_vec(random("probe", t.elem_count()), t.shape(), &Device::Cpu).unwrap()
}

fn run(inputs: &[Tensor], params: &Params, f: Forward, composed: bool) -> Outcome {
    let tape = Tape::new();
    let train = TrainContext::new(&tape, 5, 9);
    let mut pass = Pass::train(&train);
    if composed {
        pass = pass.composed();
    }
    params.clear_grads();
    let acts: Vec<Act> = inputs.iter().map(|t| tape.leaf(t.clone())).collect();
    let y = f(&pass, &acts).unwrap();
    let grads = tape.backward_from(&y, probe_of(y.value())).unwrap();
    Outcome {
        out: flat(y.value()),
        inputs: acts.iter().map(|a| grads.of(a).map(flat).unwrap_or_default()).collect(),
        params: params.trainable().map(|p| (p.name().to_string(), p.grad().dense().to_vec())).collect(),
    }
}

/// Σ probe · f, in f64, under the same dropout masks as the gradient's pass.
fn objective(inputs: &[Tensor], f: Forward) -> f64 {
    let tape = Tape::new();
    let train = TrainContext::new(&tape, 5, 9);
    let acts: Vec<Act> = inputs.iter().map(|t| tape.leaf(t.clone())).collect();
    let y = f(&Pass::train(&train), &acts).unwrap();
    let probe = flat(&probe_of(y.value()));
    flat(y.value()).iter().zip(probe).map(|(&y, p)| f64::from(y) * f64::from(p)).sum()
}

fn close(what: &str, got: &[f32], want: &[f32], tol: f32) {
    assert_eq!(got.len(), want.len(), "{what}: length");
    let scale = want.iter().fold(1f32, |a, b| a.max(b.abs()));
    for (i, (g, w)) in got.iter().zip(want).enumerate() {
        assert!((g - w).abs() <= tol * scale, "{what}[{i}]: {g} against {w} (scale {scale})");
    }
}

/// A direction of length 1, half random, half along `grad`: where a wrong slope shows.
fn direction(name: &str, grad: &[f32]) -> Vec<f32> {
    let unit = |v: Vec<f32>| {
        let norm = v.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
        v.into_iter().map(|v| v / norm).collect::<Vec<_>>()
    };
    let (r, g) = (unit(random(name, grad.len())), unit(grad.to_vec()));
    unit(r.iter().zip(&g).map(|(r, g)| r + g).collect())
}

/// Holds fused = composed (values and all gradients) and the gradients = central differences along random directions.
pub fn check(inputs: &[Tensor], params: &Params, f: impl Fn(&Pass, &[Act]) -> Result<Act>) {
    let fused = run(inputs, params, &f, false);
    let composed = run(inputs, params, &f, true);
    close("value", &fused.out, &composed.out, 2e-5);
    for (i, (a, b)) in fused.inputs.iter().zip(&composed.inputs).enumerate() {
        close(&format!("input {i}"), a, b, 5e-5);
    }
    for ((name, a), (_, b)) in fused.params.iter().zip(&composed.params) {
        assert!(!a.is_empty(), "{name}: no gradient");
        close(name, a, b, 5e-5);
    }
    // A kink (ReLU) or rounding may spoil one step size; a wrong gradient is wrong at all of them.
    let differ = |what: &str, grad: &[f32], dir: &[f32], at: &dyn Fn(f64) -> f64| {
        let slope: f64 = grad.iter().zip(dir).map(|(&g, &d)| f64::from(g) * f64::from(d)).sum();
        let size = grad.iter().map(|&g| f64::from(g).powi(2)).sum::<f64>().sqrt();
        let measured: Vec<f64> = [1e-2, 3e-3, 1e-3, 3e-4]
            .iter()
            .map(|step| {
                // Richardson: the error of the central difference falls to O(h⁴).
                let (one, half) = ((at(*step) - at(-step)) / (2.0 * step), (at(step / 2.0) - at(-step / 2.0)) / step);
                (4.0 * half - one) / 3.0
            })
            .collect();
        let agrees = measured.iter().any(|m| (slope - m).abs() < 1e-2 * (0.5 + size));
        assert!(agrees, "{what}: gradient {slope}, differences {measured:?}");
    };
    for (i, grad) in fused.inputs.iter().enumerate() {
        assert!(!grad.is_empty(), "input {i}: no gradient");
        let dir = direction(&format!("dir{i}"), grad);
        differ(&format!("input {i}"), grad, &dir, &|h| {
            let mut moved = inputs.to_vec();
            let d = Tensor::from_slice(&dir, inputs[i].shape(), &Device::Cpu).unwrap();
            moved[i] = (&inputs[i] + (d * h).unwrap()).unwrap();
            objective(&moved, &f)
        });
    }
    for (name, grad) in &fused.params {
        let p = params.get(name).unwrap();
        let before = p.value().copy().unwrap();
        let dir = direction(&format!("dir/{name}"), grad);
        differ(name, grad, &dir, &|h| {
            let d = Tensor::from_slice(&dir, p.shape(), &Device::Cpu).unwrap();
            p.set(&(&before + (d * h).unwrap()).unwrap()).unwrap();
            let v = objective(inputs, &f);
            p.set(&before).unwrap();
            v
        });
    }
}

/// Parameters of a small model, perturbed.
pub fn build<M>(model: impl Fn(&morec::nn::Scope) -> Result<M>) -> (Params, M) {
    let (params, m) = Params::fresh(1, &Device::Cpu, model).unwrap();
    perturb(&params, 0.3);
    (params, m)
}

#[test]
fn a_wrong_gradient_is_noticed() {
    let (params, ()) = build(|_| Ok(()));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        check(&[matrix("x", 3, 4)], &params, |pass, a| {
            let x = a[0].value().clone();
            let node = a[0].node();
            let y = (&x * 2.0)?;
            Ok(pass.result(
                y,
                Some(move |g: Tensor, grads: &mut morec::nn::Grads| grads.add(node, (g * 3.0).map_err(Error::from)?)),
            ))
        })
    }));
    assert!(caught.is_err());
}
