//! From a model, or any method that scores, to a report.

use super::Report;
use super::candidates::Candidates;
use super::encode::{ProgressFn, USERS, candidates, catalogue, states};
use super::metrics::{ListMetrics, means};
use super::ranking::{Catalogue, Rank, RankQuery, rank_among};
use crate::config::EvalConfig;
use crate::data::{Case, Split};
use crate::error::Result;
use crate::item::Features;
use crate::model::Recommender;
use crate::nn::kernels::dot;
use crate::nn::ops::normalize_rows_in_place;
use rayon::prelude::*;

/// Groups of cases: by the target's number of training events, then by the length of the history.
pub const GROUPS: [&str; 8] =
    ["cold", "warm", "hot", "history 1-4", "history 5-9", "history 10-19", "history 20-49", "history 50+"];

/// Ranks and recommendation lists of one method for the cases of an [`EvalTask`].
#[derive(Debug, Clone, Default)]
pub struct RankingResult {
    /// Rank of each target in the whole catalogue.
    pub ranks: Vec<Rank>,
    /// Recommendation list of each case, where lists are evaluated.
    pub lists: Vec<Vec<u32>>,
    /// Rank of each target among sampled candidates, by name of the protocol.
    pub sampled: Vec<(String, Vec<Rank>)>,
    /// Mean distance between two items of one list, for methods with item vectors.
    pub diversity: Option<f64>,
}

/// The cases to rank and how they are measured.
#[derive(Clone, Copy)]
pub struct EvalTask<'a> {
    /// The split that the cases belong to.
    pub split: &'a Split,
    /// Cases of the validation or test part.
    pub cases: &'a [Case],
    /// Cut-offs, tie policy, masking.
    pub config: &'a EvalConfig,
    /// Sampled candidates of the cases, one set per protocol.
    pub candidates: &'a [Candidates],
}

impl EvalTask<'_> {
    /// The cases as ranking queries: target and masked items.
    pub fn queries(&self) -> Vec<RankQuery<'_>> {
        let masked = |c: &Case| if self.config.mask_history { self.split.history(c) } else { &[] };
        self.cases.iter().map(|c| RankQuery { target: c.target, masked: masked(c) }).collect()
    }
    /// Rank of the target of case `q` among its sampled candidates, each scored by `score`.
    pub fn rank_among_candidates(&self, drawn: &Candidates, q: usize, score: impl Fn(u32) -> f64) -> Rank {
        let target = self.cases[q].target;
        rank_among(score(target), drawn.of(q).iter().map(|&i| (i < target, score(i))))
    }
    /// Metrics of a method's ranks and lists.
    pub fn report(&self, ranked: &RankingResult, name: &str) -> Report {
        let hot = hot_from(&self.split.counts);
        let groups: Vec<Vec<&str>> = self
            .cases
            .iter()
            .map(|c| vec![by_events(self.split.counts[c.target as usize], hot), by_history(c.until)])
            .collect();
        let mut report = Report::new(&ranked.ranks, &groups, self.split.items.len(), self.config, name);
        for (protocol, ranks) in &ranked.sampled {
            let found = means(ranks.iter(), self.config);
            report.all.extend(found.into_iter().map(|(m, v)| (format!("{m}[{protocol}]"), v)));
        }
        if self.config.lists > 0 && !ranked.lists.is_empty() {
            report.lists = Some(self.lists(ranked));
        }
        report
    }
    fn lists(&self, ranked: &RankingResult) -> ListMetrics {
        let counts = &self.split.counts;
        let mut offered = vec![false; counts.len()];
        ranked.lists.iter().flatten().for_each(|&i| offered[i as usize] = true);
        let mean = |events: &mut dyn Iterator<Item = u32>| {
            let (n, sum) = events.fold((0u64, 0u64), |(n, s), i| (n + 1, s + u64::from(counts[i as usize])));
            sum as f64 / n.max(1) as f64
        };
        ListMetrics {
            k: self.config.lists.min(counts.len()),
            coverage: offered.iter().filter(|o| **o).count() as f64 / counts.len().max(1) as f64,
            popularity: mean(&mut ranked.lists.iter().flatten().copied()),
            target_popularity: mean(&mut self.cases.iter().map(|c| c.target)),
            diversity: ranked.diversity,
        }
    }
}

/// Number of training events from which an item is hot: hot items hold half of all training events.
fn hot_from(counts: &[u32]) -> u32 {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable_by(|a, b| b.cmp(a));
    let half = sorted.iter().map(|&c| u64::from(c)).sum::<u64>() as f64 / 2.0;
    let mut sum = 0;
    for c in sorted {
        sum += u64::from(c);
        if sum as f64 >= half {
            return c.max(1);
        }
    }
    1
}

fn by_events(count: u32, hot: u32) -> &'static str {
    match count {
        0 => GROUPS[0],
        c if c >= hot => GROUPS[2],
        _ => GROUPS[1],
    }
}

fn by_history(events: u32) -> &'static str {
    match events {
        0..5 => GROUPS[3],
        5..10 => GROUPS[4],
        10..20 => GROUPS[5],
        20..50 => GROUPS[6],
        _ => GROUPS[7],
    }
}

/// Ranks the cases with a model and computes the metrics.
pub fn evaluate(
    model: &Recommender,
    features: &Features,
    task: &EvalTask,
    name: &str,
    on_progress: ProgressFn,
) -> Result<(Report, RankingResult)> {
    let items = catalogue(model, features, on_progress)?;
    let ranked = rank(model, &items, task)?;
    Ok((task.report(&ranked, name), ranked))
}

fn rank(model: &Recommender, items: &[f32], task: &EvalTask) -> Result<RankingResult> {
    let d = model.item.dim();
    let scored = candidates(model, items);
    let catalogue = Catalogue::new(&scored, d)?;
    // A user's state, and as much again while it is computed.
    let at_once = (task.config.memory_mb * 1_000_000 / (8 * d) / USERS * USERS).max(USERS);
    let sampled = task.candidates.iter().map(|c| (c.name.clone(), vec![])).collect();
    let mut out = RankingResult { sampled, ..RankingResult::default() };
    for (part, cases) in task.cases.chunks(at_once).enumerate() {
        let histories: Vec<&[u32]> = cases.iter().map(|c| task.split.history(c)).collect();
        let users: Vec<u32> = cases.iter().map(|c| c.user).collect();
        let states = states(model, items, &histories, Some(&users))?;
        let queries = EvalTask { cases, ..*task };
        let (ranks, lists) = catalogue.rank_and_list(&states, &queries.queries(), task.config.lists)?;
        out.ranks.extend(ranks);
        out.lists.extend(lists);
        for (drawn, (_, ranks)) in task.candidates.iter().zip(&mut out.sampled) {
            let one = |i: usize| {
                let state = &states[i * d..(i + 1) * d];
                let score = |c: u32| f64::from(dot(state, &scored[c as usize * d..(c as usize + 1) * d]));
                task.rank_among_candidates(drawn, part * at_once + i, score)
            };
            ranks.par_extend((0..cases.len()).into_par_iter().map(one));
        }
    }
    if task.config.lists > 0 {
        out.diversity = Some(diversity(&out.lists, items, d));
    }
    Ok(out)
}

/// Mean over lists of the mean of 1 − cosine over their pairs. For unit vectors Σ cos = ‖Σ v‖² − k.
pub fn diversity(lists: &[Vec<u32>], items: &[f32], d: usize) -> f64 {
    let mut unit = items.to_vec();
    normalize_rows_in_place(&mut unit, d, 1.0);
    let of: Vec<f64> = lists
        .par_iter()
        .filter(|l| l.len() > 1)
        .map(|l| {
            let mut sum = vec![0f64; d];
            for &i in l {
                sum.iter_mut().zip(&unit[i as usize * d..]).for_each(|(s, &v)| *s += f64::from(v));
            }
            let k = l.len() as f64;
            1.0 - (sum.iter().map(|s| s * s).sum::<f64>() - k) / (k * (k - 1.0))
        })
        .collect();
    (0.0 + of.iter().sum::<f64>()) / of.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_diversity() {
        // 10 of 19 events are the first item's.
        assert_eq!(hot_from(&[10, 4, 3, 1, 1, 0]), 10);
        assert_eq!(hot_from(&[1, 1, 1, 1]), 1);
        assert_eq!([by_events(0, 5), by_events(4, 5), by_events(5, 5)], ["cold", "warm", "hot"]);
        assert_eq!([by_history(4), by_history(5), by_history(50)], ["history 1-4", "history 5-9", "history 50+"]);
        let items = [1.0, 0.0, 0.0, 2.0, 3.0, 0.0];
        // Pairs: (0,1) at right angles, (0,2) alike, (1,2) at right angles.
        assert!((diversity(&[vec![0, 1, 2]], &items, 2) - 2.0 / 3.0).abs() < 1e-6);
        assert!((diversity(&[vec![0, 2], vec![0, 1], vec![1]], &items, 2) - 0.5).abs() < 1e-6);
    }
}
