//! Inner loops over slices, compiled for several instruction sets and selected at run time.

use crate::error::Result;
use crate::nn::host::{host, scratch, tensor};
use crate::rng::keep_bits;
use candle_core::Tensor;
use multiversion::multiversion;
use rayon::prelude::*;

/// Number of elements per parallel job.
pub const CHUNK: usize = 16 * 1024;
/// Number of rows per parallel job; fixed, so that sums do not depend on the number of threads.
pub const ROWS: usize = 32;

/// exp for |x| ≤ 87, relative error < 2e-7 (Cephes' polynomial), written so that the compiler can vectorise it.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // The lowest bits of the sum are the rounded exponent. A conversion to an integer would not vectorise.
    let t = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let n = t - 12_582_912.0;
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4f32;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    (p * r * r + r + 1.0) * f32::from_bits((t.to_bits() << 23).wrapping_add(127 << 23))
}

/// Distribution function Φ(x) and density φ(x) of the standard normal; erf by Abramowitz & Stegun 7.1.26, absolute
/// error < 1.5e-7.
#[inline(always)]
fn normal_cdf_pdf(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let e = exp(-z * z);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = ((((1.061_405_4 * t - 1.453_152) * t + 1.421_413_7) * t - 0.284_496_74) * t + 0.254_829_6) * t;
    let tail = 0.5 * p * e;
    (if x < 0.0 { tail } else { 1.0 - tail }, 0.398_942_3 * e)
}

/// tanh computed with [`exp`].
#[inline(always)]
fn tanh(x: f32) -> f32 {
    let e = exp(-2.0 * x.abs());
    ((1.0 - e) / (1.0 + e)).copysign(x)
}

/// Element-wise activation functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// GELU, exact: x·Φ(x).
    Gelu,
    /// GELU in its tanh approximation (`gelu_new` in transformers).
    GeluTanh,
    /// ReLU: max(x, 0), with derivative 0 at 0.
    Relu,
    /// Hyperbolic tangent.
    Tanh,
    /// QuickGELU of CLIP: x·σ(1.702 x).
    QuickGelu,
    /// SiLU: x·σ(x).
    Silu,
}

/// Returns σ(a·x) and the derivative of x·σ(a·x).
#[inline(always)]
fn swish(x: f32, a: f32) -> (f32, f32) {
    let s = sigmoid(a * x);
    (s, s + a * x * s * (1.0 - s))
}

const QUICK: f32 = 1.702;

const G0: f32 = 0.797_884_6; // √(2/π)
const G1: f32 = 0.044_715;

macro_rules! simd {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident : $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma", "x86_64+avx2+fma", "aarch64+neon"))]
        $vis fn $name($($arg: $ty),*) $(-> $ret)? $body
    };
}

simd! {
    /// Applies an activation function: y = f(x).
    pub fn activate(f: Activation, x: &[f32], y: &mut [f32]) {
        match f {
            Activation::Gelu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * normal_cdf_pdf(x).0),
            Activation::GeluTanh => y.iter_mut().zip(x).for_each(|(y, &x)| *y = 0.5 * x * (1.0 + tanh(G0 * (x + G1 * x * x * x)))),
            Activation::Relu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x.max(0.0)),
            Activation::Tanh => y.iter_mut().zip(x).for_each(|(y, &x)| *y = tanh(x)),
            Activation::QuickGelu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * swish(x, QUICK).0),
            Activation::Silu => y.iter_mut().zip(x).for_each(|(y, &x)| *y = x * swish(x, 1.0).0),
        }
    }
}

simd! {
    /// Backward pass of an activation function: d = g · f′(x).
    pub fn activate_back(f: Activation, x: &[f32], g: &[f32], d: &mut [f32]) {
        match f {
            Activation::Gelu => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) {
                let (c, p) = normal_cdf_pdf(x);
                *d = g * (c + x * p);
            },
            Activation::GeluTanh => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) {
                let t = tanh(G0 * (x + G1 * x * x * x));
                *d = g * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * G0 * (1.0 + 3.0 * G1 * x * x));
            },
            Activation::Relu => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) { *d = if x > 0.0 { g } else { 0.0 }; },
            Activation::Tanh => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) { let t = tanh(x); *d = g * (1.0 - t * t); },
            Activation::QuickGelu => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) { *d = g * swish(x, QUICK).1; },
            Activation::Silu => for ((d, &x), &g) in d.iter_mut().zip(x).zip(g) { *d = g * swish(x, 1.0).1; },
        }
    }
}

simd! {
    /// Adds the bias and applies an activation function in place: y = f(y + bias).
    pub fn bias_activate(f: Activation, y: &mut [f32], bias: Option<&[f32]>) {
        if let Some(b) = bias { y.iter_mut().zip(b).for_each(|(y, b)| *y += b); }
        match f {
            Activation::Gelu => y.iter_mut().for_each(|y| *y *= normal_cdf_pdf(*y).0),
            Activation::GeluTanh => y.iter_mut().for_each(|y| *y = 0.5 * *y * (1.0 + tanh(G0 * (*y + G1 * *y * *y * *y)))),
            Activation::Relu => y.iter_mut().for_each(|y| *y = y.max(0.0)),
            Activation::Tanh => y.iter_mut().for_each(|y| *y = tanh(*y)),
            Activation::QuickGelu => y.iter_mut().for_each(|y| *y *= swish(*y, QUICK).0),
            Activation::Silu => y.iter_mut().for_each(|y| *y *= swish(*y, 1.0).0),
        }
    }
}

simd! {
    /// Recomputes u = f(x) and computes d = d · f′(x), in one pass over memory.
    pub fn activate_back_both(f: Activation, x: &[f32], u: &mut [f32], d: &mut [f32]) {
        match f {
            Activation::Gelu => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                let (c, p) = normal_cdf_pdf(x);
                *u = x * c;
                *d *= c + x * p;
            },
            Activation::GeluTanh => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                let t = tanh(G0 * (x + G1 * x * x * x));
                *u = 0.5 * x * (1.0 + t);
                *d *= 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * G0 * (1.0 + 3.0 * G1 * x * x);
            },
            Activation::Relu => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                *u = x.max(0.0);
                *d = if x > 0.0 { *d } else { 0.0 };
            },
            Activation::Tanh => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                let t = tanh(x);
                *u = t;
                *d *= 1.0 - t * t;
            },
            Activation::QuickGelu => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                let (s, slope) = swish(x, QUICK);
                *u = x * s;
                *d *= slope;
            },
            Activation::Silu => for ((d, &x), u) in d.iter_mut().zip(x).zip(u) {
                let (s, slope) = swish(x, 1.0);
                *u = x * s;
                *d *= slope;
            },
        }
    }
}

simd! {
    /// Adds element by element: y += x.
    pub fn add_assign(y: &mut [f32], x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += x);
    }
}

simd! {
    /// Adds a multiple: y += a · x.
    pub fn axpy(y: &mut [f32], a: f32, x: &[f32]) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x);
    }
}

simd! {
    /// Applies ReLU in place: y = max(y, 0).
    pub fn relu(y: &mut [f32]) {
        y.iter_mut().for_each(|y| *y = y.max(0.0));
    }
}

simd! {
    /// Scales and shifts element by element: y = x · scale + shift.
    pub fn scale_shift(y: &mut [f32], x: &[f32], scale: &[f32], shift: &[f32]) {
        for (((y, &x), &a), &b) in y.iter_mut().zip(x).zip(scale).zip(shift) { *y = x * a + b; }
    }
}

simd! {
    /// Dropout in place: element i of `x` (counted from `at`) is set to 0 if its hash is below `threshold`, and
    /// multiplied by `scale` otherwise.
    pub fn drop_mask(x: &mut [f32], key: u64, at: u32, threshold: u32, scale: f32) {
        for (i, x) in x.iter_mut().enumerate() {
            *x = if keep_bits(key, at.wrapping_add(i as u32)) >= threshold { *x * scale } else { 0.0 };
        }
    }
}

/// Reduces sixteen lanes in a tree; in a chain each operation would wait for the result before it.
#[inline(always)]
fn fold_lanes(l: [f32; 16], f: impl Fn(f32, f32) -> f32) -> f32 {
    let a: [f32; 8] = std::array::from_fn(|i| f(l[i], l[i + 8]));
    let b: [f32; 4] = std::array::from_fn(|i| f(a[i], a[i + 4]));
    f(f(b[0], b[2]), f(b[1], b[3]))
}

/// Sum, accumulated in sixteen fixed lanes.
#[inline(always)]
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let chunks = x.chunks_exact(16);
    let rest: f32 = chunks.remainder().iter().sum();
    for c in chunks {
        for i in 0..16 {
            lanes[i] += c[i];
        }
    }
    fold_lanes(lanes, |a, b| a + b) + rest
}

/// Dot product, accumulated in sixteen fixed lanes.
#[inline(always)]
pub fn dot(x: &[f32], y: &[f32]) -> f32 {
    let mut lanes = [0f32; 16];
    let n = x.len() / 16 * 16;
    for (c, d) in x[..n].chunks_exact(16).zip(y[..n].chunks_exact(16)) {
        for i in 0..16 {
            lanes[i] += c[i] * d[i];
        }
    }
    fold_lanes(lanes, |a, b| a + b) + x[n..].iter().zip(&y[n..]).map(|(a, b)| a * b).sum::<f32>()
}

/// Softmax rows up to this length are copied to a buffer whose length is a multiple of the vector width.
const SHORT: usize = 128;

/// Computes exp(x − max x) in place; returns the sum and the maximum. −∞ becomes 0.
#[inline(always)]
fn exp_row(x: &mut [f32]) -> (f32, f32) {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = x.chunks_exact(16);
    let mut m = chunks.remainder().iter().fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    for c in chunks {
        for i in 0..16 {
            lanes[i] = if c[i] > lanes[i] { c[i] } else { lanes[i] };
        }
    }
    let all = fold_lanes(lanes, |a, b| if b > a { b } else { a });
    m = if all > m { all } else { m };
    for v in x.iter_mut() {
        *v = if *v == f32::NEG_INFINITY { 0.0 } else { exp(*v - m) };
    }
    (sum(x), m)
}

simd! {
    /// Softmax of one row in place; returns log Σ exp.
    pub fn softmax(x: &mut [f32]) -> f32 {
        let (s, m) = exp_row(x);
        let k = 1.0 / s;
        for v in x.iter_mut() { *v *= k; }
        m + s.ln()
    }
}

simd! {
    /// Softmax of each row of an (l, l) matrix in place; with `causal`, row i uses only its first i + 1 columns.
    pub fn softmax_square(x: &mut [f32], l: usize, causal: bool) {
        let mut buffer = [0f32; SHORT];
        for (row, x) in x.chunks_exact_mut(l).enumerate() {
            let seen = if causal { row + 1 } else { l };
            let whole = seen.next_multiple_of(16);
            if whole <= SHORT {
                let b = &mut buffer[..whole];
                b[..seen].copy_from_slice(&x[..seen]);
                b[seen..].fill(f32::NEG_INFINITY);
                let k = 1.0 / exp_row(b).0;
                for (x, b) in x[..seen].iter_mut().zip(b) { *x = *b * k; }
            } else {
                let k = 1.0 / exp_row(&mut x[..seen]).0;
                for x in x[..seen].iter_mut() { *x *= k; }
            }
            x[seen..].fill(0.0);
        }
    }
}

simd! {
    /// Backward pass of one softmax row, scaled: ds = p·(dp − Σ p·dp)·scale, written over dp.
    pub fn softmax_back(p: &[f32], dp: &mut [f32], scale: f32) {
        let s = dot(p, dp);
        for (d, &p) in dp.iter_mut().zip(p) { *d = p * (*d - s) * scale; }
    }
}

simd! {
    /// LayerNorm of one row: `xhat` holds the input and becomes (x − μ)/σ; y = xhat·w + b. Returns 1/σ.
    pub fn norm_row(xhat: &mut [f32], w: &[f32], b: &[f32], eps: f32, y: &mut [f32]) -> f32 {
        let d = xhat.len() as f32;
        let mu = sum(xhat) / d;
        for v in xhat.iter_mut() { *v -= mu; }
        let r = 1.0 / (dot(xhat, xhat) / d + eps).sqrt();
        for (((v, y), &w), &b) in xhat.iter_mut().zip(y).zip(w).zip(b) { *v *= r; *y = *v * w + b; }
        r
    }
}

simd! {
    /// Backward pass of one row of LayerNorm: adds to dw and db, writes dx. `t` is scratch memory of the row's length.
    pub fn norm_row_back(g: &[f32], xhat: &[f32], w: &[f32], r: f32, dw: &mut [f32], db: &mut [f32], t: &mut [f32], dx: &mut [f32]) {
        let d = g.len() as f32;
        for i in 0..g.len() { dw[i] += g[i] * xhat[i]; db[i] += g[i]; t[i] = g[i] * w[i]; }
        let (m1, m2) = (sum(t) / d, dot(t, xhat) / d);
        for i in 0..g.len() { dx[i] = r * (t[i] - m1 - xhat[i] * m2); }
    }
}

/// Logistic function 1/(1 + exp(−x)).
#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

simd! {
    /// Gated row: y = σ(a)·b.
    pub fn gate_row(a: &[f32], b: &[f32], y: &mut [f32]) {
        for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) { *y = sigmoid(a) * b; }
    }
}

simd! {
    /// Backward pass of [`gate_row`]: gradients of σ(a)·b with respect to a and b.
    pub fn gate_row_back(a: &[f32], b: &[f32], g: &[f32], da: &mut [f32], db: &mut [f32]) {
        for i in 0..g.len() {
            let s = sigmoid(a[i]);
            da[i] = g[i] * b[i] * s * (1.0 - s);
            db[i] = g[i] * s;
        }
    }
}

simd! {
    /// One row of a GRU step. `gi` and `gh` (3h) are the contributions of input and hidden state to the gates r, z, n.
    /// `h` holds the hidden state and becomes the next one. `kept` (4h) receives r, z, n and the hidden state's part of
    /// n.
    pub fn gru_row(gi: &[f32], gh: &[f32], h: &mut [f32], kept: &mut [f32]) {
        let w = h.len();
        let (ir, rest) = gi.split_at(w);
        let (iz, inn) = rest.split_at(w);
        let (hr, rest) = gh.split_at(w);
        let (hz, hn) = rest.split_at(w);
        let (kr, rest) = kept.split_at_mut(w);
        let (kz, rest) = rest.split_at_mut(w);
        let (kn, kh) = rest.split_at_mut(w);
        let (inn, hz, hn, kn, kh) = (&inn[..w], &hz[..w], &hn[..w], &mut kn[..w], &mut kh[..w]);
        for i in 0..w {
            let (r, z) = (sigmoid(ir[i] + hr[i]), sigmoid(iz[i] + hz[i]));
            let n = tanh(inn[i] + r * hn[i]);
            (kr[i], kz[i], kn[i], kh[i]) = (r, z, n, hn[i]);
            h[i] = (1.0 - z) * n + z * h[i];
        }
    }
}

simd! {
    /// Backward pass of [`gru_row`]. `dh` holds the gradient of the next hidden state and becomes the direct part of
    /// the gradient of `before`, the previous hidden state. `di` and `dg` (3h) receive the gradients of `gi` and `gh`.
    pub fn gru_row_back(kept: &[f32], before: &[f32], dh: &mut [f32], di: &mut [f32], dg: &mut [f32]) {
        let w = dh.len();
        let (kr, rest) = kept.split_at(w);
        let (kz, rest) = rest.split_at(w);
        let (kn, kh) = rest.split_at(w);
        let (ir, rest) = di.split_at_mut(w);
        let (iz, inn) = rest.split_at_mut(w);
        let (gr, rest) = dg.split_at_mut(w);
        let (gz, gn) = rest.split_at_mut(w);
        let (before, kh, inn, gn) = (&before[..w], &kh[..w], &mut inn[..w], &mut gn[..w]);
        for i in 0..w {
            let (r, z, n, d) = (kr[i], kz[i], kn[i], dh[i]);
            let dn = d * (1.0 - z) * (1.0 - n * n);
            let dz = d * (before[i] - n) * z * (1.0 - z);
            let dr = dn * kh[i] * r * (1.0 - r);
            (ir[i], iz[i], inn[i]) = (dr, dz, dn);
            (gr[i], gz[i], gn[i]) = (dr, dz, dn * r);
            dh[i] = d * z;
        }
    }
}

/// Constants of one AdamW step (Loshchilov & Hutter 2019).
#[derive(Debug, Clone, Copy)]
pub struct AdamStep {
    /// Learning rate.
    pub lr: f32,
    /// Decay rate β₁ of the first moment.
    pub beta1: f32,
    /// Decay rate β₂ of the second moment.
    pub beta2: f32,
    /// Constant ε added to the square root of the second moment.
    pub eps: f32,
    /// Factor of decoupled weight decay: 1 − lr·weight decay.
    pub decay: f32,
    /// Bias correction of the first moment: 1/(1 − β₁ᵗ).
    pub bias1: f32,
    /// Bias correction of the second moment, after the root: 1/√(1 − β₂ᵗ).
    pub bias2: f32,
    /// Factor on the gradient (gradient clipping).
    pub scale: f32,
}

simd! {
    /// AdamW step on parameter `p` with gradient `g` and moments `m`, `v`, in one pass over memory.
    pub fn adamw(s: AdamStep, p: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32]) {
        for (((p, &g), m), v) in p.iter_mut().zip(g).zip(m).zip(v) {
            let g = g * s.scale;
            *m = s.beta1 * *m + (1.0 - s.beta1) * g;
            *v = s.beta2 * *v + (1.0 - s.beta2) * g * g;
            *p = *p * s.decay - s.lr * (*m * s.bias1) / (v.sqrt() * s.bias2 + s.eps);
        }
    }
}

simd! {
    /// Sum of squares Σ x², accumulated in f64 over blocks of 4096 elements.
    pub fn sum_squares(x: &[f32]) -> f64 {
        x.chunks(4096).map(|c| f64::from(dot(c, c))).sum()
    }
}

simd! {
    /// Numbers of scores that are greater than `target` and that equal it.
    pub fn count_above(scores: &[f32], target: f32) -> (u32, u32) {
        let (mut above, mut equal) = (0u32, 0u32);
        for &s in scores { above += u32::from(s > target); equal += u32::from(s == target); }
        (above, equal)
    }
}

/// Sum of two tensors a + b, computed in parallel.
pub fn add_tensors(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let mut out = scratch(a.elem_count());
    {
        let (a, b) = (host(a)?, host(b)?);
        let (a, b): (&[f32], &[f32]) = (&a, &b);
        out.par_chunks_mut(CHUNK).zip(a.par_chunks(CHUNK)).zip(b.par_chunks(CHUNK)).for_each(|((o, a), b)| {
            o.copy_from_slice(a);
            add_assign(o, b);
        });
    }
    tensor(out, a.shape())
}

/// Column sums of columns `from..from + width` of a (rows, n) matrix, by fixed blocks of rows: out = beta · out + sums.
pub fn column_sums(g: &[f32], n: usize, from: usize, width: usize, out: &mut [f32], beta: f32) {
    let parts: Vec<Vec<f32>> = g
        .par_chunks(n * 256)
        .map(|block| {
            let mut acc = vec![0f32; width];
            for row in block.chunks_exact(n) {
                add_assign(&mut acc, &row[from..from + width]);
            }
            acc
        })
        .collect();
    if beta == 0.0 {
        out.fill(0.0);
    }
    for p in parts {
        add_assign(out, &p);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_gelu_tanh_are_close_to_libm() {
        let xs: Vec<f32> = (-4000..4000).map(|i| i as f32 * 0.004).collect();
        let mut y = vec![0f32; xs.len()];
        for &x in &xs {
            assert!((f64::from(exp(x)) / libm::exp(f64::from(x)) - 1.0).abs() < 3e-7, "exp {x}");
        }
        activate(Activation::Gelu, &xs, &mut y);
        for (&x, &y) in xs.iter().zip(&y) {
            let x = f64::from(x);
            let want = 0.5 * x * libm::erfc(-x / std::f64::consts::SQRT_2);
            assert!((f64::from(y) - want).abs() < 1e-6 * (1.0 + x.abs()), "gelu {x}: {y} {want}");
        }
        activate(Activation::Tanh, &xs, &mut y);
        for (&x, &y) in xs.iter().zip(&y) {
            assert!((f64::from(y) - libm::tanh(f64::from(x))).abs() < 3e-7, "tanh {x}");
        }
    }
}
