//! The rank of each target among all candidates: blocked matrix products and counting, no sort.
//!
//! Every score comes from a product of one fixed tile shape (64 users × 512 items, padded with zeros), so that it
//! depends neither on the number of users ranked together nor on the number of threads.

use crate::error::{Error, Result};
use crate::nn::gemm::{Mat, sgemm};
use crate::nn::kernels::count_above;
use rayon::prelude::*;

const USERS: usize = 64;
const ITEMS: usize = 512;

/// One ranking query: the target item and the items that are masked.
#[derive(Debug, Clone, Copy)]
pub struct RankQuery<'a> {
    /// The target item.
    pub target: u32,
    /// Items that are no candidates (the user's history); duplicates are allowed.
    pub masked: &'a [u32],
}

/// Rank of a target, with ties counted separately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    /// Candidates with a greater score.
    pub above: u32,
    /// Other candidates with the same score.
    pub equal: u32,
    /// Other candidates with the same score and a smaller index.
    pub equal_before: u32,
    /// Whether the target itself was masked, which counts as a miss.
    pub masked: bool,
}

impl Rank {
    const MISS: Self = Self { above: u32::MAX, equal: 0, equal_before: 0, masked: true };
}

/// Item vectors in tiles of fixed size; only the last tile is copied, to pad it with zeros.
pub struct Catalogue<'a> {
    data: &'a [f32],
    last: Vec<f32>,
    count: usize,
    dim: usize,
    largest: f32,
}

impl<'a> Catalogue<'a> {
    /// Tiles of item vectors (items, dim); a non-finite value is an error.
    pub fn new(items: &'a [f32], dim: usize) -> Result<Self> {
        if dim == 0 || !items.len().is_multiple_of(dim) {
            return Err(Error::Numeric("ranking: states, items and questions do not fit together".into()));
        }
        let largest = finite(items, dim, "item")?;
        let count = items.len() / dim;
        let mut last = items[count / ITEMS * ITEMS * dim..].to_vec();
        last.resize(ITEMS * dim, 0.0);
        Ok(Self { data: items, last, count, dim, largest })
    }
    /// Tile whose first item is `from`.
    fn tile(&self, from: usize) -> &[f32] {
        if from + ITEMS <= self.count { &self.data[from * self.dim..(from + ITEMS) * self.dim] } else { &self.last }
    }
    /// Ranks targets by the inner product of user states (queries, d) and items. Memory beside the input: one tile of
    /// scores per thread.
    pub fn rank(&self, states: &[f32], queries: &[RankQuery]) -> Result<Vec<Rank>> {
        Ok(self.rank_and_list(states, queries, 0)?.0)
    }
    /// As `rank`, and also returns for each query the `k` candidates of highest score, best first, ties by index.
    pub fn rank_and_list(&self, states: &[f32], queries: &[RankQuery], k: usize) -> Result<(Vec<Rank>, Vec<Vec<u32>>)> {
        if states.len() != queries.len() * self.dim {
            return Err(Error::Numeric("ranking: states, items and questions do not fit together".into()));
        }
        let largest = finite(states, self.dim, "user")?;
        if f64::from(largest) * f64::from(self.largest) * self.dim as f64 >= f64::from(f32::MAX) {
            return Err(Error::Numeric("ranking: products of the vectors overflow; the model is not usable".into()));
        }
        if let Some(q) = queries.iter().find(|q| q.target as usize >= self.count) {
            return Err(Error::Numeric(format!("ranking: target {} of {} items", q.target, self.count)));
        }
        let blocks: Vec<(Vec<Rank>, Vec<Best>)> = queries
            .par_chunks(USERS)
            .zip(states.par_chunks(USERS * self.dim))
            .map(|(q, s)| rank_block(self, s, q, k))
            .collect();
        let (ranks, lists): (Vec<_>, Vec<_>) = blocks.into_iter().unzip();
        Ok((ranks.concat(), lists.into_iter().flatten().map(Best::items).collect()))
    }
}

/// Largest magnitude of the values; NaN and infinities are errors that name the row.
fn finite(rows: &[f32], dim: usize, what: &str) -> Result<f32> {
    match rows.iter().position(|v| !v.is_finite()) {
        None => Ok(rows.iter().fold(0f32, |m, v| m.max(v.abs()))),
        Some(i) => Err(Error::Numeric(format!(
            "{what} vector {} holds {}: the model is not usable; train it again with a smaller learning rate or clipping",
            i / dim,
            rows[i]
        ))),
    }
}

/// Ranks targets by the inner product of user states (queries, d) and item vectors (items, d).
pub fn rank_dense(states: &[f32], items: &[f32], dim: usize, queries: &[RankQuery]) -> Result<Vec<Rank>> {
    Catalogue::new(items, dim)?.rank(states, queries)
}

/// The k candidates with the highest scores seen so far.
struct Best {
    k: usize,
    found: Vec<(f32, u32)>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, found: Vec::with_capacity(k + 1) }
    }
    /// Score that a new candidate has to exceed.
    fn floor(&self) -> f32 {
        if self.found.len() == self.k { self.found[self.k - 1].0 } else { f32::NEG_INFINITY }
    }
    /// Adds the scores of the items from index `from` on; among equal scores the earlier item comes first.
    fn look(&mut self, scores: &[f32], from: usize) {
        const STRIDE: usize = 16;
        for (block, part) in scores.chunks(STRIDE).enumerate() {
            let floor = self.floor();
            if !part.iter().any(|&s| s > floor) {
                continue;
            }
            for (i, &s) in part.iter().enumerate() {
                if s > self.floor() {
                    let at = self.found.partition_point(|f| f.0 >= s);
                    self.found.insert(at, (s, (from + block * STRIDE + i) as u32));
                    self.found.truncate(self.k);
                }
            }
        }
    }
    fn items(self) -> Vec<u32> {
        self.found.into_iter().map(|f| f.1).collect()
    }
}

fn rank_block(c: &Catalogue, states: &[f32], queries: &[RankQuery], k: usize) -> (Vec<Rank>, Vec<Best>) {
    let d = c.dim;
    let mut users = states.to_vec();
    users.resize(USERS * d, 0.0);
    let mut scores = vec![0f32; USERS * ITEMS];
    let tile = |items: &[f32], scores: &mut [f32]| {
        sgemm(USERS, ITEMS, d, 1.0, Mat::new(&users, d), Mat::t(items, d), 0.0, scores, ITEMS, false);
    };
    // The targets' scores, from a tile of the same shape as all others.
    let mut wanted = vec![0f32; ITEMS * d];
    for (i, q) in queries.iter().enumerate() {
        let t = q.target as usize;
        wanted[i * d..(i + 1) * d].copy_from_slice(&c.data[t * d..(t + 1) * d]);
    }
    tile(&wanted, &mut scores);
    let at_target: Vec<f32> = (0..queries.len()).map(|i| scores[i * ITEMS + i]).collect();
    let masks: Vec<Vec<u32>> = queries
        .iter()
        .map(|q| {
            let mut m = q.masked.to_vec();
            m.sort_unstable();
            m.dedup();
            m
        })
        .collect();
    let mut ranks: Vec<Rank> =
        queries.iter().map(|_| Rank { above: 0, equal: 0, equal_before: 0, masked: false }).collect();
    let mut best: Vec<Best> = queries.iter().map(|_| Best::new(k)).collect();
    for from in (0..c.count).step_by(ITEMS) {
        let n = ITEMS.min(c.count - from);
        tile(c.tile(from), &mut scores);
        for (i, q) in queries.iter().enumerate() {
            let row = &mut scores[i * ITEMS..i * ITEMS + n];
            let m = &masks[i];
            let within = m.partition_point(|&x| (x as usize) < from)..m.partition_point(|&x| (x as usize) < from + n);
            for &x in &m[within] {
                row[x as usize - from] = f32::NEG_INFINITY;
            }
            // The target's own column is set to its score bit for bit, whatever column a kernel computed it in.
            let own = (q.target as usize).wrapping_sub(from);
            if own < n && row[own] != f32::NEG_INFINITY {
                row[own] = at_target[i];
            }
            if k > 0 {
                best[i].look(row, from);
            }
            let (above, equal) = count_above(row, at_target[i]);
            ranks[i].above += above;
            ranks[i].equal += equal;
            let before = (q.target as usize).saturating_sub(from).min(n);
            if equal > 0 && before > 0 {
                ranks[i].equal_before += count_above(&row[..before], at_target[i]).1;
            }
        }
    }
    for (r, (q, m)) in ranks.iter_mut().zip(queries.iter().zip(&masks)) {
        if m.binary_search(&q.target).is_ok() {
            *r = Rank::MISS;
        } else {
            r.equal = r.equal.saturating_sub(1); // the target itself
        }
    }
    (ranks, best)
}

/// The `k` candidates of highest score that are not `masked`, best first, ties by index.
pub fn list_scores(scores: &[f64], masked: &[u32], k: usize) -> Vec<u32> {
    let mut masked = masked.to_vec();
    masked.sort_unstable();
    let mut found: Vec<(f64, u32)> = Vec::with_capacity(k + 1);
    for (i, &s) in scores.iter().enumerate() {
        let full = found.len() >= k;
        if full && found.last().is_none_or(|f| s <= f.0) || masked.binary_search(&(i as u32)).is_ok() {
            continue;
        }
        found.insert(found.partition_point(|f| f.0 >= s), (s, i as u32));
        found.truncate(k);
    }
    found.into_iter().map(|f| f.1).collect()
}

/// Rank of a target with score `target` among other candidates, each given as (has a smaller index, score).
pub fn rank_among(target: f64, others: impl Iterator<Item = (bool, f64)>) -> Rank {
    let mut r = Rank { above: 0, equal: 0, equal_before: 0, masked: false };
    for (before, s) in others {
        r.above += u32::from(s > target);
        r.equal += u32::from(s == target);
        r.equal_before += u32::from(s == target && before);
    }
    r
}

/// Ranks one target by explicit scores (baselines without vectors).
pub fn rank_scores(scores: &[f64], q: &RankQuery) -> Result<Rank> {
    if scores.iter().any(|s| s.is_nan()) {
        return Err(Error::Numeric("ranking: a score is NaN".into()));
    }
    if q.masked.contains(&q.target) {
        return Ok(Rank::MISS);
    }
    let mut masked = q.masked.to_vec();
    masked.sort_unstable();
    masked.dedup();
    let target = scores[q.target as usize];
    let other = |i: u32| (i < q.target, scores[i as usize]);
    let all = rank_among(target, (0..scores.len() as u32).filter(|&i| i != q.target).map(other));
    let hidden = rank_among(target, masked.into_iter().map(other));
    Ok(Rank {
        above: all.above - hidden.above,
        equal: all.equal - hidden.equal,
        equal_before: all.equal_before - hidden.equal_before,
        masked: false,
    })
}
