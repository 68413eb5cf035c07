//! Recall of nearest neighbours between two vector spaces.

use crate::nn::gemm::{Mat, sgemm};
use rayon::prelude::*;

/// Rows per block of scores.
const BLOCK: usize = 256;

/// Scales each row of width `d` to length 1; zero rows stay.
pub fn normalise(x: &mut [f32], d: usize) {
    x.par_chunks_exact_mut(d).for_each(|row| {
        let n = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        if n > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / n) as f32);
        }
    });
}

/// For each row its `k` nearest others by cosine, nearest first (ties: lower row first). Rows need not be normalised.
pub fn nearest(x: &[f32], d: usize, k: usize) -> Vec<Vec<u32>> {
    let mut x = x.to_vec();
    normalise(&mut x, d);
    let n = x.len() / d;
    let k = k.min(n.saturating_sub(1));
    let mut out = Vec::with_capacity(n);
    let mut scores = vec![0f32; BLOCK * n];
    for from in (0..n).step_by(BLOCK) {
        let rows = BLOCK.min(n - from);
        let block = &mut scores[..rows * n];
        sgemm(rows, n, d, 1.0, Mat::new(&x[from * d..], d), Mat::t(&x, d), 0.0, block, n, true);
        let found: Vec<Vec<u32>> = block
            .par_chunks_exact(n)
            .enumerate()
            .map(|(r, s)| {
                let mut ids: Vec<u32> = (0..n as u32).filter(|&j| j as usize != from + r).collect();
                let order = |a: &u32, b: &u32| s[*b as usize].total_cmp(&s[*a as usize]).then(a.cmp(b));
                if k < ids.len() {
                    ids.select_nth_unstable_by(k, order);
                    ids.truncate(k);
                }
                ids.sort_unstable_by(order);
                ids
            })
            .collect();
        out.extend(found);
    }
    out
}

/// Mean share of each row's `k` nearest in `reference` that are among its `k` nearest in `other`.
pub fn recall(reference: &[Vec<u32>], other: &[Vec<u32>]) -> f64 {
    let mut total = 0.0;
    for (a, b) in reference.iter().zip(other) {
        total += a.iter().filter(|i| b.contains(i)).count() as f64 / a.len().max(1) as f64;
    }
    total / reference.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_on_a_circle() {
        let angles = [0.0f32, 0.1, 0.3, 2.0, 2.05];
        let x: Vec<f32> = angles.iter().flat_map(|a| [3.0 * a.cos(), 3.0 * a.sin()]).collect();
        let near = nearest(&x, 2, 2);
        assert_eq!(near, [[1, 2], [0, 2], [1, 0], [4, 2], [3, 2]]);
        assert_eq!(recall(&near, &near), 1.0);
        let other = vec![vec![3, 4], vec![0, 2], vec![1, 0], vec![4, 2], vec![3, 0]];
        assert!((recall(&near, &other) - 0.7).abs() < 1e-12);
    }
}
