//! Baselines without gradients.

mod neighbours;

pub use neighbours::ItemNeighbours;

use crate::config::EvalConfig;
use crate::data::{Case, Split};
use crate::error::Result;
use crate::eval::encode::questions;
use crate::eval::{Rank, rank_scores};
use rayon::prelude::*;
use std::collections::HashMap;

/// Scores every candidate after a history.
pub trait Baseline: Sync {
    /// Writes one score a candidate.
    fn score(&self, history: &[u32], out: &mut [f64]);
    /// Name in tables.
    fn name(&self) -> &'static str;
}

/// By number of training events.
pub struct MostPopular {
    counts: Vec<u32>,
}

impl MostPopular {
    /// Counts the training part.
    pub fn new(split: &Split) -> Self {
        Self { counts: split.counts.clone() }
    }
}

impl Baseline for MostPopular {
    fn score(&self, _: &[u32], out: &mut [f64]) {
        out.iter_mut().zip(&self.counts).for_each(|(o, &c)| *o = f64::from(c));
    }
    fn name(&self) -> &'static str {
        "most popular"
    }
}

/// First-order Markov chain: training bigrams from the last item; among equals, popularity.
pub struct Markov {
    next: HashMap<u32, Vec<(u32, u32)>>,
    counts: Vec<u32>,
    most: f64,
}

impl Markov {
    /// Counts bigrams within the training part.
    pub fn new(split: &Split) -> Self {
        let mut pairs: HashMap<(u32, u32), u32> = HashMap::new();
        for u in 0..split.users.len() {
            for w in split.train_row(u).windows(2) {
                *pairs.entry((w[0], w[1])).or_default() += 1;
            }
        }
        let mut next: HashMap<u32, Vec<(u32, u32)>> = HashMap::new();
        for ((a, b), n) in pairs {
            next.entry(a).or_default().push((b, n));
        }
        let most = f64::from(split.counts.iter().copied().max().unwrap_or(0)) + 1.0;
        Self { next, counts: split.counts.clone(), most }
    }
    /// Number of bigram events.
    pub fn bigrams(&self) -> u64 {
        self.next.values().flatten().map(|&(_, n)| u64::from(n)).sum()
    }
}

impl Baseline for Markov {
    fn score(&self, history: &[u32], out: &mut [f64]) {
        out.iter_mut().zip(&self.counts).for_each(|(o, &c)| *o = f64::from(c));
        if let Some(next) = history.last().and_then(|l| self.next.get(l)) {
            // One bigram outweighs any popularity.
            next.iter().for_each(|&(item, n)| out[item as usize] += f64::from(n) * self.most);
        }
    }
    fn name(&self) -> &'static str {
        "Markov"
    }
}

/// Ranks the targets of `cases`.
pub fn rank(baseline: &dyn Baseline, split: &Split, cases: &[Case], config: &EvalConfig) -> Result<Vec<Rank>> {
    let questions = questions(split, cases, config);
    cases
        .par_iter()
        .zip(&questions)
        .map_init(
            || vec![0f64; split.items.len()],
            |scores, (case, q)| {
                baseline.score(split.history(case), scores);
                rank_scores(scores, q)
            },
        )
        .collect()
}
