//! Image resizing bit for bit as in Pillow: a filter whose support is widened by the scale when an image shrinks
//! (antialias), applied along rows and then along columns in 22-bit fixed point.
//!
//! Source: Pillow's `Resample.c` (`precompute_coeffs`, `ImagingResampleHorizontal_8bpc`, `…Vertical_8bpc`).

use super::Rgb;
use multiversion::multiversion;
use serde::{Deserialize, Serialize};

/// Resampling filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Filter {
    /// Triangle filter.
    Bilinear,
    /// Keys' cubic filter, a = −0.5.
    Bicubic,
}

impl Filter {
    fn support(self) -> f64 {
        if self == Self::Bilinear { 1.0 } else { 2.0 }
    }
    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Bicubic => 0.0,
        }
    }
}

const BITS: u32 = 32 - 8 - 2;

/// For each output position: the first input position, and the weights from there on.
struct Taps {
    first: Vec<usize>,
    count: Vec<usize>,
    weights: Vec<i32>,
    most: usize,
}

impl Taps {
    fn new(from: usize, to: usize, filter: Filter) -> Self {
        let scale = from as f64 / to as f64;
        let wide = scale.max(1.0);
        let support = filter.support() * wide;
        let most = support.ceil() as usize * 2 + 1;
        let (mut first, mut count, mut weights) = (vec![], vec![], vec![0i32; most * to]);
        let mut k = vec![0f64; most];
        for at in 0..to {
            let centre = (at as f64 + 0.5) * scale;
            let low = ((centre - support + 0.5) as i64).max(0) as usize;
            let high = ((centre + support + 0.5) as i64).min(from as i64) as usize;
            let n = high - low;
            for (x, k) in k[..n].iter_mut().enumerate() {
                *k = filter.weight(((x + low) as f64 - centre + 0.5) / wide);
            }
            let total: f64 = k[..n].iter().sum();
            for (w, k) in weights[at * most..].iter_mut().zip(&k[..n]) {
                let v = if total != 0.0 { k / total } else { *k };
                let half = if v < 0.0 { -0.5 } else { 0.5 };
                *w = (half + v * f64::from(1u32 << BITS)) as i32;
            }
            first.push(low);
            count.push(n);
        }
        Self { first, count, weights, most }
    }
    fn of(&self, at: usize) -> (usize, &[i32]) {
        (self.first[at], &self.weights[at * self.most..][..self.count[at]])
    }
}

#[inline(always)]
fn clip(v: i32) -> u8 {
    (v >> BITS).clamp(0, 255) as u8
}

/// Resizes an image to `width` × `height`.
pub fn resize(picture: &Rgb, width: usize, height: usize, filter: Filter) -> Rgb {
    let mut out = std::borrow::Cow::Borrowed(picture);
    if width != picture.width {
        let taps = Taps::new(picture.width, width, filter);
        let mut data = vec![0u8; 3 * width * picture.height];
        // Four values per pixel, so that a pixel fills one vector register.
        let mut wide = vec![0i32; 4 * picture.width];
        for (to, from) in data.chunks_exact_mut(3 * width).zip(picture.data.chunks_exact(3 * picture.width)) {
            along_row(from, &mut wide, &taps, to);
        }
        out = std::borrow::Cow::Owned(Rgb { width, height: picture.height, data });
    }
    if height != picture.height {
        let taps = Taps::new(picture.height, height, filter);
        let row = 3 * width;
        let (mut data, mut sums) = (vec![0u8; row * height], vec![0i32; row]);
        for (at, to) in data.chunks_exact_mut(row).enumerate() {
            let (first, weights) = taps.of(at);
            along_column(&out.data[first * row..], row, weights, &mut sums, to);
        }
        out = std::borrow::Cow::Owned(Rgb { width, height, data });
    }
    out.into_owned()
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1",
    "aarch64+neon"
))]
fn along_row(from: &[u8], wide: &mut [i32], taps: &Taps, to: &mut [u8]) {
    for (w, p) in wide.chunks_exact_mut(4).zip(from.chunks_exact(3)) {
        (w[0], w[1], w[2]) = (i32::from(p[0]), i32::from(p[1]), i32::from(p[2]));
    }
    for (at, to) in to.chunks_exact_mut(3).enumerate() {
        let (first, weights) = taps.of(at);
        let mut sum = [1i32 << (BITS - 1); 4];
        for (&k, p) in weights.iter().zip(wide[4 * first..].chunks_exact(4)) {
            for c in 0..4 {
                sum[c] += k * p[c];
            }
        }
        (to[0], to[1], to[2]) = (clip(sum[0]), clip(sum[1]), clip(sum[2]));
    }
}

#[multiversion(targets(
    "x86_64+avx512f+avx512bw+avx512dq+avx512vl+avx2+fma",
    "x86_64+avx2+fma",
    "x86_64+sse4.1",
    "aarch64+neon"
))]
fn along_column(from: &[u8], row: usize, weights: &[i32], sums: &mut [i32], to: &mut [u8]) {
    sums.fill(1 << (BITS - 1));
    for (k, from) in weights.iter().zip(from.chunks_exact(row)) {
        for (s, &v) in sums.iter_mut().zip(from) {
            *s += k * i32::from(v);
        }
    }
    for (to, &s) in to.iter_mut().zip(&*sums) {
        *to = clip(s);
    }
}
