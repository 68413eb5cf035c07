//! 2-D convolution over images whose pixels are rows: (n·h·w, channels), image by image, pixel row by pixel row.
//!
//! The pixels under the filter are gathered (im2col) for a few images at a time and multiplied by the weights. The
//! backward pass gathers them again instead of storing them. 1×1 filters with stride 1 need no im2col.

use super::composed::composed;
use super::linear;
use crate::error::{Error, Result};
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::host::{SharedMut, host, scratch, tensor};
use crate::nn::kernels::{add_assign, relu};
use crate::nn::tape::{Act, Grads, Pass};
use crate::nn::{Linear, Weight};
use candle_core::{Device, Tensor};
use rayon::prelude::*;
use std::sync::Arc;

/// Layout of `n` images of `h` × `w` pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid {
    /// Number of images.
    pub n: usize,
    /// Height in pixels.
    pub h: usize,
    /// Width in pixels.
    pub w: usize,
}

impl Grid {
    /// Number of pixels per image.
    pub fn area(self) -> usize {
        self.h * self.w
    }
    /// Total number of pixels, which is the number of rows.
    pub fn rows(self) -> usize {
        self.n * self.area()
    }
    /// Output layout of a `k` × `k` convolution with the given stride and `pad` zeros on each side.
    pub fn conv_output(self, k: usize, stride: usize, pad: usize) -> Self {
        let side = |s: usize| (s + 2 * pad - k) / stride + 1;
        Self { n: self.n, h: side(self.h), w: side(self.w) }
    }
}

/// Size, stride and padding of a square filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Filter {
    /// Side length in pixels.
    pub k: usize,
    /// Stride in pixels.
    pub stride: usize,
    /// Zeros added on each side of the image.
    pub pad: usize,
}

impl Filter {
    fn of(self, grid: Grid) -> Grid {
        grid.conv_output(self.k, self.stride, self.pad)
    }
    fn plain(self) -> bool {
        self.k == 1 && self.stride == 1 && self.pad == 0
    }
}

/// Minimum number of output pixels per im2col block; a block holds whole images.
const PIXELS: usize = 512;

/// Reorders weights (out, in, k, k) → (out, k·k·in), the column order of im2col.
fn to_channels_last(w: &[f32], out: usize, c: usize, kk: usize) -> Vec<f32> {
    let mut y = scratch(w.len());
    y.par_chunks_mut(kk * c).zip(w.par_chunks(kk * c)).take(out).for_each(|(y, w)| {
        for (i, w) in w.chunks_exact(kk).enumerate() {
            for (j, &v) in w.iter().enumerate() {
                y[j * c + i] = v;
            }
        }
    });
    y
}

/// Reverses [`to_channels_last`] for a gradient: out = beta · out + reordered y.
fn add_channels_first(y: &[f32], c: usize, kk: usize, out: &mut [f32], beta: f32) {
    out.par_chunks_mut(kk * c).zip(y.par_chunks(kk * c)).for_each(|(out, y)| {
        for (i, out) in out.chunks_exact_mut(kk).enumerate() {
            for (j, o) in out.iter_mut().enumerate() {
                *o = y[j * c + i] + if beta == 0.0 { 0.0 } else { *o };
            }
        }
    });
}

/// For row `ky` of the filter at output position `at`: index of the first pixel under it, number of pixels under it,
/// and number of filter columns left of the image. `None` if the filter row lies above or below the image.
fn visible_pixels(grid: Grid, f: Filter, at: usize, ky: usize) -> Option<(usize, usize, usize)> {
    let out = f.of(grid);
    let y = (at / out.w * f.stride + ky).checked_sub(f.pad).filter(|y| *y < grid.h)?;
    let left = at % out.w * f.stride;
    let (from, to) = (left.max(f.pad), (left + f.k).min(grid.w + f.pad));
    Some((y * grid.w + from - f.pad, to.saturating_sub(from), from - left))
}

/// im2col of one image: (out.area, k·k·c).
fn im2col(x: &[f32], c: usize, grid: Grid, f: Filter, cols: &mut [f32]) {
    for (at, row) in cols.chunks_exact_mut(f.k * f.k * c).take(f.of(grid).area()).enumerate() {
        for (ky, row) in row.chunks_exact_mut(f.k * c).enumerate() {
            let Some((pixel, len, before)) = visible_pixels(grid, f, at, ky) else {
                row.fill(0.0);
                continue;
            };
            row[..before * c].fill(0.0);
            row[before * c..(before + len) * c].copy_from_slice(&x[pixel * c..(pixel + len) * c]);
            row[(before + len) * c..].fill(0.0);
        }
    }
}

/// col2im of one image: adds the gradient of im2col's output to the pixels it was gathered from.
fn col2im(cols: &[f32], c: usize, grid: Grid, f: Filter, dx: &mut [f32]) {
    for (at, row) in cols.chunks_exact(f.k * f.k * c).take(f.of(grid).area()).enumerate() {
        for (ky, row) in row.chunks_exact(f.k * c).enumerate() {
            if let Some((pixel, len, before)) = visible_pixels(grid, f, at, ky) {
                add_assign(&mut dx[pixel * c..(pixel + len) * c], &row[before * c..(before + len) * c]);
            }
        }
    }
}

/// Number of images per im2col block; depends only on their size, so that sums do not depend on the number of threads.
fn pictures_per_block(grid: Grid, f: Filter) -> usize {
    PIXELS.div_ceil(f.of(grid).area()).min(grid.n.max(1))
}

/// Computes y = x ∗ w (+ bias) (+ residual) and an optional ReLU, without recording; `w` is (out, k·k·in).
pub(super) fn forward(
    x: &[f32],
    c: usize,
    grid: Grid,
    f: Filter,
    w: &[f32],
    bias: Option<&[f32]>,
    residual: Option<&[f32]>,
    with_relu: bool,
) -> Vec<f32> {
    let out = f.of(grid);
    let wide = f.k * f.k * c;
    let n = w.len() / wide;
    let mut y = scratch(out.rows() * n);
    let some = pictures_per_block(grid, f);
    let finish = |y: &mut [f32], at: usize| {
        if let Some(r) = residual {
            add_assign(y, &r[at..at + y.len()]);
        }
        if with_relu {
            relu(y);
        }
    };
    let prepare = |y: &mut [f32]| {
        if let Some(b) = bias {
            y.chunks_exact_mut(n).for_each(|y| y.copy_from_slice(b));
        }
        if bias.is_some() { 1.0 } else { 0.0 }
    };
    y.par_chunks_mut(some * out.area() * n).enumerate().for_each_init(
        || if f.plain() { vec![] } else { scratch(some * out.area() * wide) },
        |cols, (part, y)| {
            let rows = y.len() / n;
            let from = part * some * grid.area() * c;
            let beta = prepare(y);
            let visible_pixels: &[f32] = if f.plain() {
                &x[from..]
            } else {
                for (p, cols) in cols.chunks_exact_mut(out.area() * wide).take(rows / out.area()).enumerate() {
                    im2col(&x[from + p * grid.area() * c..], c, grid, f, cols);
                }
                cols
            };
            sgemm(rows, n, wide, 1.0, Mat::new(visible_pixels, wide), Mat::t(w, wide), beta, y, n, false);
            finish(y, part * some * out.area() * n);
        },
    );
    y
}

/// 2-D convolution x (n·h·w, in) → (n·h′·w′, out), returned with its layout. `weight` is (out, in, k, k) as in PyTorch;
/// there is no bias.
pub fn conv2d(pass: &Pass, x: &Act, grid: Grid, weight: &Weight, stride: usize, pad: usize) -> Result<(Act, Grid)> {
    let (rows, c) = x.dims2()?;
    let [n, inputs, k, _] = weight.shape()[..] else {
        return Err(Error::Numeric(format!("convolution: a filter of shape {:?}", weight.shape())));
    };
    if rows != grid.rows() || c != inputs || grid.h + 2 * pad < k || grid.w + 2 * pad < k {
        let m = format!("convolution: {rows} pixels of {c} channels, {grid:?}, for {:?}", weight.shape());
        return Err(Error::Numeric(m));
    }
    let f = Filter { k, stride, pad };
    let out = f.of(grid);
    if !pass.fused(x.value().device()) {
        // im2col by a gather, with a row of zeros for pixels outside the image. (The backward pass of candle's own
        // convolution fails for some sizes.)
        let ids: Vec<u32> = (0..out.rows() * k * k)
            .map(|i| {
                let (row, at) = (i / (k * k), i % (k * k));
                let (p, place) = (row / out.area(), row % out.area());
                let y = place / out.w * stride + at / k;
                let x = place % out.w * stride + at % k;
                match (y.checked_sub(pad).filter(|y| *y < grid.h), x.checked_sub(pad).filter(|x| *x < grid.w)) {
                    (Some(y), Some(x)) => (p * grid.area() + y * grid.w + x) as u32,
                    _ => rows as u32,
                }
            })
            .collect();
        let y = composed(pass, &[x], &[weight], |a, w| {
            let zero = Tensor::zeros((1, c), a[0].dtype(), a[0].device())?;
            let ids = Tensor::new(ids.as_slice(), a[0].device())?;
            let visible_pixels =
                Tensor::cat(&[&a[0], &zero], 0)?.index_select(&ids, 0)?.reshape((out.rows(), k * k * c))?;
            let w = w[0].permute((0, 2, 3, 1))?.contiguous()?.reshape((n, k * k * c))?;
            Ok(visible_pixels.matmul(&w.t()?)?)
        })?;
        return Ok((y, out));
    }
    if f.plain() {
        // (out, in, 1, 1) has the memory layout of (out, in).
        return Ok((linear(pass, x, &Linear::of(weight.clone(), None))?, out));
    }
    let value = {
        let (xh, w) = (host(x.value())?, weight.value());
        let w = to_channels_last(&host(&w)?, n, c, k * k);
        forward(&xh, c, grid, f, &w, None, None, false)
    };
    let back = pass.records_with(x.tracked(), [weight]).then(|| {
        let (x, node, weight) = (x.value().clone(), x.node(), weight.clone());
        move |g: Tensor, grads: &mut Grads| {
            let dx = backward(&x, grid, f, &weight, &g, node.is_some())?;
            grads.done([&weight])?;
            match dx {
                Some(dx) => grads.add(node, tensor(dx, (grid.rows(), c))?),
                None => Ok(()),
            }
        }
    });
    Ok((pass.result(tensor(value, (out.rows(), n))?, back), out))
}

/// Number of partial sums of the weight's gradient; fixed, so that they do not depend on the number of threads.
fn partial_sums(weights: usize) -> usize {
    if weights > 1 << 20 { 4 } else { 8 }
}

fn backward(
    x: &Tensor,
    grid: Grid,
    f: Filter,
    weight: &Weight,
    g: &Tensor,
    wants_dx: bool,
) -> Result<Option<Vec<f32>>> {
    let (xh, gh, wv) = (host(x)?, host(g)?, weight.value());
    let (xs, gs): (&[f32], &[f32]) = (&xh, &gh);
    let (n, c) = (weight.shape()[0], weight.shape()[1]);
    let out = f.of(grid);
    let wide = f.k * f.k * c;
    let w = if wants_dx { to_channels_last(&host(&wv)?, n, c, f.k * f.k) } else { vec![] };
    let some = pictures_per_block(grid, f);
    let mut dx = vec![0f32; if wants_dx { grid.rows() * c } else { 0 }];
    let parts = grid.n.div_ceil(some);
    let partial_sums = partial_sums(n * wide).min(parts);
    let each = parts.div_ceil(partial_sums);
    let shared = SharedMut::new(&mut dx);
    let trains = weight.trains();
    let sums: Vec<Vec<f32>> = (0..partial_sums)
        .into_par_iter()
        .map(|lane| {
            let mut dw = if trains { scratch(n * wide) } else { vec![] };
            let mut cols = scratch(some * out.area() * wide);
            let mut first = true;
            for part in lane * each..((lane + 1) * each).min(parts) {
                let pictures = part * some..((part + 1) * some).min(grid.n);
                let rows = pictures.len() * out.area();
                let gs = &gs[pictures.start * out.area() * n..][..rows * n];
                if trains {
                    for (p, cols) in pictures.clone().zip(cols.chunks_exact_mut(out.area() * wide)) {
                        im2col(&xs[p * grid.area() * c..], c, grid, f, cols);
                    }
                    let beta = if first { 0.0 } else { 1.0 };
                    sgemm(n, wide, rows, 1.0, Mat::t(gs, n), Mat::new(&cols, wide), beta, &mut dw, wide, false);
                    first = false;
                }
                if wants_dx {
                    sgemm(rows, wide, n, 1.0, Mat::new(gs, n), Mat::new(&w, wide), 0.0, &mut cols, wide, false);
                    for (p, cols) in pictures.zip(cols.chunks_exact(out.area() * wide)) {
                        // SAFETY: image p lies within dx, and only this part writes to it.
                        let dx =
                            unsafe { std::slice::from_raw_parts_mut(shared.at(p * grid.area() * c), grid.area() * c) };
                        col2im(cols, c, grid, f, dx);
                    }
                }
            }
            if first {
                dw.fill(0.0);
            }
            dw
        })
        .collect();
    if trains && let Some((total, rest)) = sums.split_first() {
        let mut total = total.clone();
        rest.iter().for_each(|s| add_assign(&mut total, s));
        weight.add_grad(|dw, beta| add_channels_first(&total, c, f.k * f.k, dw, beta));
    }
    Ok(wants_dx.then_some(dx))
}

/// Max pooling per channel with a `k` × `k` filter; padding is never the maximum. Among equal values the first gets the
/// gradient, as in PyTorch.
pub fn max_pool(pass: &Pass, x: &Act, grid: Grid, k: usize, stride: usize, pad: usize) -> Result<(Act, Grid)> {
    let (_, c) = x.dims2()?;
    let out = grid.conv_output(k, stride, pad);
    let mut y = scratch(out.rows() * c);
    let mut from = vec![0u32; out.rows() * c];
    {
        // The positions of the maxima are found on the CPU for every device.
        let here = x.value().to_device(&Device::Cpu)?;
        let xh = host(&here)?;
        let xs: &[f32] = &xh;
        y.par_chunks_mut(out.w * c).zip(from.par_chunks_mut(out.w * c)).enumerate().for_each(|(line, (y, from))| {
            let (p, oy) = (line / out.h, line % out.h);
            for (ox, (y, from)) in y.chunks_exact_mut(c).zip(from.chunks_exact_mut(c)).enumerate() {
                y.fill(f32::NEG_INFINITY);
                let rows = (oy * stride).saturating_sub(pad)..(oy * stride + k - pad).min(grid.h);
                for iy in rows {
                    for ix in (ox * stride).saturating_sub(pad)..(ox * stride + k - pad).min(grid.w) {
                        let row = p * grid.area() + iy * grid.w + ix;
                        for ((y, from), &v) in y.iter_mut().zip(from.iter_mut()).zip(&xs[row * c..]) {
                            if v > *y || v.is_nan() {
                                (*y, *from) = (v, row as u32);
                            }
                        }
                    }
                }
            }
        });
    }
    if !pass.fused(x.value().device()) {
        let device = x.value().device().clone();
        let ids: Vec<u32> = from.iter().enumerate().map(|(i, r)| r * c as u32 + (i % c) as u32).collect();
        let y = composed(pass, &[x], &[], |a, _| {
            Ok(a[0].flatten_all()?.index_select(&Tensor::new(ids.as_slice(), &device)?, 0)?.reshape((out.rows(), c))?)
        })?;
        return Ok((y, out));
    }
    let back = pass.records(x.tracked()).then(|| {
        let (node, from) = (x.node(), Arc::new(from));
        move |g: Tensor, grads: &mut Grads| {
            let mut dx = vec![0f32; grid.rows() * c];
            {
                let gh = host(&g)?;
                let gs: &[f32] = &gh;
                let per = out.area() * c;
                dx.par_chunks_mut(grid.area() * c).enumerate().for_each(|(p, dx)| {
                    let base = p * grid.area() * c;
                    for (i, (&g, &r)) in gs[p * per..][..per].iter().zip(&from[p * per..]).enumerate() {
                        dx[r as usize * c + i % c - base] += g;
                    }
                });
            }
            grads.add(node, tensor(dx, (grid.rows(), c))?)
        }
    });
    Ok((pass.result(tensor(y, (out.rows(), c))?, back), out))
}

/// Selects every `stride`-th pixel of every `stride`-th pixel row; returns the result with its layout.
pub fn subsample(pass: &Pass, x: &Act, grid: Grid, stride: usize) -> Result<(Act, Grid)> {
    if stride == 1 {
        return Ok((x.clone(), grid));
    }
    let out = grid.conv_output(1, stride, 0);
    let ids = (0..out.rows()).map(|r| {
        let (p, at) = (r / out.area(), r % out.area());
        (p * grid.area() + at / out.w * stride * grid.w + at % out.w * stride) as u32
    });
    Ok((super::gather(pass, x, Arc::new(ids.collect()))?, out))
}

/// Convolution with the batch norm folded into the weights, without recording: `scale` and `shift` per output channel
/// come from fixed statistics.
pub fn conv2d_fixed(
    x: &Act,
    grid: Grid,
    weight: &Weight,
    (stride, pad): (usize, usize),
    (scale, shift): (&[f32], &[f32]),
    residual: Option<&Act>,
    with_relu: bool,
) -> Result<(Act, Grid)> {
    let (_, c) = x.dims2()?;
    let [n, _, k, _] = weight.shape()[..] else {
        return Err(Error::Numeric(format!("convolution: a filter of shape {:?}", weight.shape())));
    };
    let f = Filter { k, stride, pad };
    let (xh, wv) = (host(x.value())?, weight.value());
    let mut w = to_channels_last(&host(&wv)?, n, c, k * k);
    w.par_chunks_mut(k * k * c).zip(scale).for_each(|(w, &s)| w.iter_mut().for_each(|w| *w *= s));
    let rh = residual.map(|r| host(r.value())).transpose()?;
    let y = forward(&xh, c, grid, f, &w, Some(shift), rh.as_deref(), with_relu);
    let out = f.of(grid);
    Ok((Act::constant(tensor(y, (out.rows(), n))?), out))
}
