//! The K items of highest score for one user state.

use crate::nn::kernels::dot;
use rayon::prelude::*;

/// The `k` items with the highest inner products of `state` (d) and the items (n, d), as (item, score), highest first,
/// ties by index; `masked` items are left out.
pub fn top_k(state: &[f32], items: &[f32], k: usize, masked: &[u32]) -> Vec<(u32, f32)> {
    let d = state.len().max(1);
    let mut scored: Vec<(u32, f32)> =
        items.par_chunks_exact(d).enumerate().map(|(i, row)| (i as u32, dot(state, row))).collect();
    for &m in masked {
        if let Some(s) = scored.get_mut(m as usize) {
            s.1 = f32::NEG_INFINITY;
        }
    }
    let better = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if k < scored.len() && k > 0 {
        scored.select_nth_unstable_by(k - 1, better);
    }
    scored.truncate(k);
    scored.retain(|s| s.1 > f32::NEG_INFINITY);
    scored.sort_unstable_by(better);
    scored
}

#[cfg(test)]
mod tests {
    use super::top_k;

    #[test]
    fn best_first_without_masked() {
        let items = [1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 3.0, 0.0];
        assert_eq!(top_k(&[1.0, 0.0], &items, 3, &[]), [(1, 3.0), (3, 3.0), (2, 2.0)]);
        assert_eq!(top_k(&[1.0, 0.0], &items, 9, &[1, 0]), [(3, 3.0), (2, 2.0)]);
    }
}
