//! Neighbourhood baselines: item-kNN (Sarwar et al. 2001; Deshpande & Karypis 2004) and text-kNN.

use super::Baseline;
use crate::data::Split;
use crate::nn::kernels::{add_assign, dot};
use crate::nn::ops::normalize_rows_in_place;
use rayon::prelude::*;

/// Number of neighbours per item.
const NEIGHBOURS: usize = 100;
/// Number of last training events used per user; bounds the work for very long histories.
const EVENTS: usize = 200;

/// Item-kNN. Score of a candidate = sum, over the distinct items of the history that have it among their 100 nearest
/// neighbours, of the cosine similarity of their user sets; ties by popularity.
pub struct ItemNeighbours {
    near: Vec<Vec<(u32, f64)>>,
    counts: Vec<u32>,
    most: f64,
}

impl ItemNeighbours {
    /// Computes the neighbours from the training part.
    pub fn new(split: &Split) -> Self {
        let n = split.items.len();
        let rows: Vec<Vec<u32>> = (0..split.users.len())
            .map(|u| {
                let row = split.train_row(u);
                let mut row = row[row.len().saturating_sub(EVENTS)..].to_vec();
                row.sort_unstable();
                row.dedup();
                row
            })
            .collect();
        let mut users = vec![vec![]; n];
        for (u, row) in rows.iter().enumerate() {
            row.iter().for_each(|&i| users[i as usize].push(u as u32));
        }
        let near = (0..n)
            .into_par_iter()
            .map_init(
                || (vec![0u32; n], vec![]),
                |(shared, seen): &mut (Vec<u32>, Vec<u32>), i| {
                    for &u in &users[i] {
                        for &j in &rows[u as usize] {
                            if shared[j as usize] == 0 {
                                seen.push(j);
                            }
                            shared[j as usize] += 1;
                        }
                    }
                    let own = users[i].len() as f64;
                    let mut near: Vec<(u32, f64)> = seen
                        .drain(..)
                        .filter_map(|j| {
                            let both = f64::from(std::mem::take(&mut shared[j as usize]));
                            (j as usize != i).then(|| (j, both / (own * users[j as usize].len() as f64).sqrt()))
                        })
                        .collect();
                    near.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
                    near.truncate(NEIGHBOURS);
                    near
                },
            )
            .collect();
        let most = f64::from(split.counts.iter().copied().max().unwrap_or(0)) + 1.0;
        Self { near, counts: split.counts.clone(), most }
    }
}

impl Baseline for ItemNeighbours {
    fn score(&self, history: &[u32], out: &mut [f64]) {
        // Popularity below 1e-9 only breaks ties, because similarities differ by far more.
        out.iter_mut().zip(&self.counts).for_each(|(o, &c)| *o = 1e-9 * f64::from(c) / self.most);
        let mut distinct = history.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        for &h in &distinct {
            self.near[h as usize].iter().for_each(|&(j, s)| out[j as usize] += s);
        }
    }
    fn name(&self) -> &'static str {
        "item-kNN"
    }
}

/// Text-kNN. Score of a candidate = sum, over the distinct items of the history, of the cosine similarity of the texts'
/// frozen embeddings. Nothing is trained, so cold items are ranked like all others.
pub struct TextNeighbours {
    /// Embeddings scaled to length 1 (items, d).
    vectors: Vec<f32>,
    d: usize,
}

impl TextNeighbours {
    /// Takes one embedding per item: `vectors` (items, d).
    pub fn new(mut vectors: Vec<f32>, d: usize) -> Self {
        normalize_rows_in_place(&mut vectors, d, 1.0);
        Self { vectors, d }
    }
}

impl Baseline for TextNeighbours {
    fn score(&self, history: &[u32], out: &mut [f64]) {
        let mut distinct = history.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let mut sum = vec![0f32; self.d];
        for &h in &distinct {
            add_assign(&mut sum, &self.vectors[h as usize * self.d..(h as usize + 1) * self.d]);
        }
        out.iter_mut().zip(self.vectors.chunks_exact(self.d)).for_each(|(o, v)| *o = f64::from(dot(&sum, v)));
    }
    fn name(&self) -> &'static str {
        "text-kNN"
    }
    fn vectors(&self) -> Option<(&[f32], usize)> {
        Some((&self.vectors, self.d))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::SplitKind;
    use crate::data::Csr;

    #[test]
    fn cosine_of_the_sets_of_users() {
        let mut seqs = Csr::default();
        // Training parts: {0,1}, {0,1,2} with 0 twice, {2}, {3}; the rest does not count.
        for row in [&[0, 1, 3][..], &[0, 1, 0, 2, 3], &[2, 0], &[3, 0]] {
            seqs.push(row);
        }
        let split = Split {
            kind: SplitKind::LeaveOneOut,
            items: (0..4).collect(),
            users: (0..4).collect(),
            seqs,
            train_len: vec![2, 4, 1, 1],
            counts: vec![3, 2, 2, 1],
            ..Split::default()
        };
        let knn = ItemNeighbours::new(&split);
        let mut out = vec![0f64; 4];
        knn.score(&[0, 0], &mut out);
        // Users of each item: item 0 of 0, 1; item 1 of 0, 1; item 2 of 1, 2; item 3 of user 3 alone.
        let want = [0.0, 1.0, 0.5, 0.0];
        assert!(out.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-8), "{out:?}");
        assert!(out[0] > out[3] && out[3] > 0.0, "popularity among equals");
        knn.score(&[1, 2], &mut out);
        assert!((out[0] - 1.5).abs() < 1e-8 && (out[1] - 0.5).abs() < 1e-8, "{out:?}");
    }

    #[test]
    fn texts_that_are_alike_come_first() {
        let knn = TextNeighbours::new(vec![2.0, 0.0, 0.0, 3.0, 1.0, 1.0, -1.0, 0.0], 2);
        let mut out = vec![0f64; 4];
        knn.score(&[0, 0], &mut out);
        let want = [1.0, 0.0, 0.5f64.sqrt(), -1.0];
        assert!(out.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-6), "{out:?}");
    }
}
