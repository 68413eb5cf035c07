//! Reduction of the teacher's vectors to the student's width by their leading k-dimensional subspace.

use crate::nn::gemm::{Mat, sgemm};
use crate::rng::Stream;

/// Rounds of the power iteration; only the subspace has to converge, not its axes.
const ROUNDS: usize = 60;

/// Orthonormal basis (k, d) of the leading k-dimensional subspace of the rows of x (n, d), about the origin: the basis that
/// preserves inner products between rows best. With k ≥ d: the identity, padded with zeros.
pub fn leading(x: &[f32], d: usize, k: usize, seed: u64) -> Vec<f32> {
    let mut basis = vec![0f32; k * d];
    if k >= d {
        (0..d).for_each(|i| basis[i * d + i] = 1.0);
        return basis;
    }
    let n = x.len() / d;
    let mut moments = vec![0f32; d * d];
    sgemm(d, d, n, 1.0 / n.max(1) as f32, Mat::t(x, d), Mat::new(x, d), 0.0, &mut moments, d, true);
    let mut stream = Stream::new(seed, "subspace");
    basis.iter_mut().for_each(|v| *v = stream.normal() as f32);
    orthonormalise(&mut basis, d);
    let mut next = vec![0f32; k * d];
    for _ in 0..ROUNDS {
        sgemm(k, d, d, 1.0, Mat::new(&basis, d), Mat::new(&moments, d), 0.0, &mut next, d, true);
        std::mem::swap(&mut basis, &mut next);
        orthonormalise(&mut basis, d);
    }
    basis
}

/// Gram–Schmidt, twice for accuracy; a row that vanishes becomes zero.
fn orthonormalise(basis: &mut [f32], d: usize) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    for i in 0..basis.len() / d {
        let (done, rest) = basis.split_at_mut(i * d);
        let row = &mut rest[..d];
        let before = dot(row, row).sqrt();
        for _ in 0..2 {
            for q in done.chunks_exact(d) {
                let c = dot(row, q) as f32;
                row.iter_mut().zip(q).for_each(|(x, y)| *x -= c * y);
            }
        }
        let length = dot(row, row).sqrt();
        let scale = if length > 1e-6 * before { 1.0 / length } else { 0.0 };
        row.iter_mut().for_each(|x| *x = (f64::from(*x) * scale) as f32);
    }
}

/// Rows of x (n, d) in a basis (k, d): (n, k).
pub fn project(x: &[f32], d: usize, basis: &[f32]) -> Vec<f32> {
    let (n, k) = (x.len() / d, basis.len() / d);
    let mut y = vec![0f32; n * k];
    sgemm(n, k, d, 1.0, Mat::new(x, d), Mat::t(basis, d), 0.0, &mut y, k, true);
    y
}

/// Maps vectors of the teacher to the student's width.
pub struct Reduction {
    /// Mean that is subtracted first (d); empty: none.
    mean: Vec<f32>,
    /// Orthonormal basis, (width, d).
    basis: Vec<f32>,
    /// Width of the teacher's vectors.
    d: usize,
}

impl Reduction {
    /// Fits the leading `k`-dimensional subspace of the rows of x (n, d). With `centered` their mean is subtracted before,
    /// also in `x`: in a vision encoder it is most of each vector and tells no picture from another.
    pub fn fit(x: &mut [f32], d: usize, k: usize, seed: u64, centered: bool) -> Self {
        let mut out = Self { mean: if centered { mean(x, d) } else { vec![] }, basis: vec![], d };
        out.center(x);
        out.basis = leading(x, d, k, seed);
        out
    }
    /// Subtracts the mean from each row, if it was fitted with one.
    pub fn center(&self, x: &mut [f32]) {
        if !self.mean.is_empty() {
            x.chunks_exact_mut(self.d).for_each(|r| r.iter_mut().zip(&self.mean).for_each(|(v, m)| *v -= m));
        }
    }
    /// Rows (n, d), centered by the caller, in the subspace: (n, k).
    pub fn project(&self, x: &[f32]) -> Vec<f32> {
        project(x, self.d, &self.basis)
    }
}

/// Mean of the rows of x (n, d).
fn mean(x: &[f32], d: usize) -> Vec<f32> {
    let mut sum = vec![0f64; d];
    x.chunks_exact(d).for_each(|r| sum.iter_mut().zip(r).for_each(|(s, v)| *s += f64::from(*v)));
    let n = (x.len() / d.max(1)).max(1) as f64;
    sum.iter().map(|s| (s / n) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_plane_that_points_lie_in() {
        // Points a·u + b·v in 5 dimensions plus a little noise: inner products survive in two.
        let (u, v) = ([1.0f32, 2.0, 0.0, -1.0, 0.5], [0.0f32, 1.0, 1.0, 1.0, -2.0]);
        let mut s = Stream::new(3, "points");
        let x: Vec<f32> = (0..200)
            .flat_map(|_| {
                let (a, b) = (s.normal() as f32, s.normal() as f32);
                (0..5).map(|i| a * u[i] + b * v[i] + 0.001 * s.normal() as f32).collect::<Vec<_>>()
            })
            .collect();
        let y = project(&x, 5, &leading(&x, 5, 2, 1));
        let dot = |m: &[f32], d: usize, i: usize, j: usize| -> f32 {
            m[i * d..(i + 1) * d].iter().zip(&m[j * d..(j + 1) * d]).map(|(a, b)| a * b).sum()
        };
        for (i, j) in [(0, 1), (5, 9), (20, 20), (7, 150)] {
            assert!((dot(&x, 5, i, j) - dot(&y, 2, i, j)).abs() < 0.05);
        }
        assert_eq!(leading(&x, 5, 7, 1).iter().sum::<f32>(), 5.0);
    }
}
