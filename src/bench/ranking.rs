//! Benchmark of full ranking with random vectors.

use super::case::Case;
use super::cases::Spec;
use crate::error::Result;
use crate::eval::{RankQuery, rank_dense};
use crate::rng::Stream;

/// Random user states, item vectors and one target per user.
pub struct Ranking {
    states: Vec<f32>,
    items: Vec<f32>,
    dim: usize,
    targets: Vec<u32>,
}

impl Ranking {
    /// Draws the vectors of `spec.batch` users and `spec.rows` items.
    pub fn new(spec: &Spec) -> Self {
        let mut s = Stream::new(1, "bench/rank");
        let mut draw = |n: usize| (0..n * spec.dim).map(|_| s.uniform() as f32 - 0.5).collect::<Vec<_>>();
        let (states, items) = (draw(spec.batch), draw(spec.rows));
        let targets = (0..spec.batch).map(|_| s.below(spec.rows as u64) as u32).collect();
        Self { states, items, dim: spec.dim, targets }
    }
}

impl Case for Ranking {
    fn step(&mut self) -> Result<Option<f64>> {
        let queries: Vec<RankQuery> = self.targets.iter().map(|&target| RankQuery { target, masked: &[] }).collect();
        std::hint::black_box(rank_dense(&self.states, &self.items, self.dim, &queries)?);
        Ok(None)
    }
}
