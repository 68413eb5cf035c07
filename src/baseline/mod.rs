//! Baselines that are not trained by gradient descent.

mod neighbours;
mod popular;

pub use neighbours::{ItemNeighbours, TextNeighbours};
pub use popular::{MostPopular, RecentPopular};

use crate::data::Split;
use crate::error::Result;
use crate::eval::evaluate::diversity;
use crate::eval::ranking::{Rank, list_scores, rank_scores};
use crate::eval::{EvalTask, RankingResult};
use rayon::prelude::*;
use std::collections::HashMap;

/// A baseline that scores every candidate after a history.
pub trait Baseline: Sync {
    /// Writes the score of every candidate after `history` to `out`.
    fn score(&self, history: &[u32], out: &mut [f64]);
    /// Name of the baseline in tables.
    fn name(&self) -> &'static str;
    /// Item vectors (items × d) and d, for methods that have them.
    fn vectors(&self) -> Option<(&[f32], usize)> {
        None
    }
}

/// First-order Markov chain: candidates scored by training bigrams from the last item; ties by popularity.
pub struct Markov {
    next: HashMap<u32, Vec<(u32, u32)>>,
    counts: Vec<u32>,
    most: f64,
}

impl Markov {
    /// Counts the bigrams of the training part.
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
    /// Number of bigram events counted.
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

/// Results of one test case: rank, recommendation list, and ranks among sampled candidates.
type Answer = (Rank, Vec<u32>, Vec<Rank>);

/// Ranks the cases of an evaluation task with a baseline.
pub fn rank(baseline: &dyn Baseline, task: &EvalTask) -> Result<RankingResult> {
    let (split, k) = (task.split, task.config.lists);
    let queries = task.queries();
    let answers: Vec<Answer> = task
        .cases
        .par_iter()
        .zip(&queries)
        .enumerate()
        .map_init(
            || vec![0f64; split.items.len()],
            |scores, (i, (case, q))| {
                baseline.score(split.history(case), scores);
                let list = if k > 0 { list_scores(scores, q.masked, k) } else { vec![] };
                let among = task
                    .candidates
                    .iter()
                    .map(|c| task.rank_among_candidates(c, i, |item| scores[item as usize]))
                    .collect();
                Ok((rank_scores(scores, q)?, list, among))
            },
        )
        .collect::<Result<_>>()?;
    let of = |j: usize| answers.iter().map(|a| a.2[j]).collect();
    let sampled = task.candidates.iter().enumerate().map(|(j, c)| (c.name.clone(), of(j))).collect();
    let ranks = answers.iter().map(|a| a.0).collect();
    let lists: Vec<Vec<u32>> = answers.into_iter().map(|a| a.1).collect();
    let diversity = baseline.vectors().filter(|_| k > 0).map(|(v, d)| diversity(&lists, v, d));
    Ok(RankingResult { ranks, lists, sampled, diversity })
}
