//! HR, NDCG, MRR, Recall and MAP at K from ranks, over all cases and over groups of cases.

use super::Rank;
use crate::config::{EvalConfig, Ties};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Metrics by name (`hr@10`), each the mean over queries.
pub type Metrics = BTreeMap<String, f64>;

/// Results of one evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Evaluation protocol, in words.
    pub protocol: String,
    /// Number of cases (users).
    pub users: usize,
    /// Number of candidates that were ranked.
    pub items: usize,
    /// Metrics over all cases.
    pub all: Metrics,
    /// By the target's training events (`cold`: none; `hot`: the most popular items that hold half of all events; `warm`: the
    /// others) and by the events before it (`history 1-4`, …; split morec keeps the last L+2). (queries, metrics)
    pub groups: BTreeMap<String, (usize, Metrics)>,
    /// Coverage, popularity and diversity of the recommendation lists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lists: Option<ListMetrics>,
}

/// Beyond-accuracy metrics of the top-k lists of all users.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ListMetrics {
    /// Items per list.
    pub k: usize,
    /// Share of the catalogue that occurs in any list.
    pub coverage: f64,
    /// Mean number of training events of recommended items (popularity bias; compare `target_popularity`).
    pub popularity: f64,
    /// Mean number of training events of the target items.
    pub target_popularity: f64,
    /// Mean over users of the mean distance, 1 − cosine, between two items of a list, by the method's item vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diversity: Option<f64>,
}

/// The gain of a target at a 1-based rank, for each metric.
fn gain(metric: &str, rank: f64, k: usize) -> f64 {
    match metric {
        _ if rank > k as f64 => 0.0,
        "ndcg" => 1.0 / (rank + 1.0).log2(),
        "mrr" | "map" => 1.0 / rank, // with one target, average precision is the reciprocal rank
        _ => 1.0,                    // hr, and recall with one target
    }
}

/// Names of the metrics computed at each K.
pub const METRICS: [&str; 5] = ["hr", "ndcg", "mrr", "recall", "map"];

/// Gain of one case under a tie policy.
pub fn gain_of(rank: &Rank, metric: &str, k: usize, ties: Ties) -> f64 {
    if rank.masked {
        return 0.0;
    }
    let first = f64::from(rank.above) + 1.0;
    match ties {
        Ties::Optimistic => gain(metric, first, k),
        Ties::Pessimistic => gain(metric, first + f64::from(rank.equal), k),
        Ties::ById => gain(metric, first + f64::from(rank.equal_before), k),
        Ties::Mean if rank.equal == 0 => gain(metric, first, k),
        Ties::Mean => {
            // Every order of the tied items is equally likely; positions beyond K have no gain.
            let places = f64::from(rank.equal) + 1.0;
            let within = (k as f64 - f64::from(rank.above)).clamp(0.0, places) as u32;
            // An empty sum of floats is -0.0.
            (0.0 + (0..within).map(|i| gain(metric, first + f64::from(i), k)).sum::<f64>()) / places
        }
    }
}

/// Means of all metrics over the given ranks.
pub fn means<'a>(ranks: impl Iterator<Item = &'a Rank> + Clone, config: &EvalConfig) -> Metrics {
    let n = ranks.clone().count().max(1) as f64;
    let mut out = Metrics::new();
    for &k in &config.ks {
        for m in METRICS {
            let total: f64 = ranks.clone().map(|r| gain_of(r, m, k, config.ties)).sum();
            out.insert(format!("{m}@{k}"), total / n);
        }
    }
    out
}

impl Report {
    /// From the ranks and, for each case, the names of the groups it belongs to.
    pub fn new(ranks: &[Rank], groups: &[Vec<&str>], items: usize, config: &EvalConfig, split: &str) -> Self {
        let names: std::collections::BTreeSet<&str> = groups.iter().flatten().copied().collect();
        let of = |name: &str| {
            let of = ranks.iter().zip(groups).filter(|(_, g)| g.contains(&name)).map(|(r, _)| r);
            (name.to_string(), (of.clone().count(), means(of, config)))
        };
        let ties =
            serde_json::to_value(config.ties).ok().and_then(|v| v.as_str().map(String::from)).unwrap_or_default();
        let history = if config.mask_history { "history masked" } else { "nothing masked" };
        Self {
            protocol: format!("{split}; full ranking over {items} items; {history}; ties: {ties}"),
            users: ranks.len(),
            items,
            all: means(ranks.iter(), config),
            groups: names.into_iter().map(of).collect(),
            lists: None,
        }
    }
    /// A metric over all cases.
    pub fn get(&self, metric: &str) -> f64 {
        self.all.get(metric).copied().unwrap_or(f64::NAN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tie_policies() {
        let r = Rank { above: 1, equal: 3, equal_before: 1, masked: false };
        let hr = |t, k| gain_of(&r, "hr", k, t);
        assert_eq!([hr(Ties::Optimistic, 2), hr(Ties::Pessimistic, 4), hr(Ties::Pessimistic, 5)], [1.0, 0.0, 1.0]);
        assert_eq!([hr(Ties::ById, 2), hr(Ties::ById, 3), hr(Ties::Mean, 3)], [0.0, 1.0, 0.5]);
        let ndcg = gain_of(&r, "ndcg", 10, Ties::Mean);
        let want = (2..=5).map(|r| 1.0 / f64::from(r + 1).log2()).sum::<f64>() / 4.0;
        assert!((ndcg - want).abs() < 1e-12);
    }

    #[test]
    fn a_tie_beyond_the_cut_off_gains_zero_and_not_minus_zero() {
        let rank = Rank { above: 30, equal: 5, equal_before: 0, masked: false };
        for metric in METRICS {
            assert!(gain_of(&rank, metric, 10, Ties::Mean).is_sign_positive(), "{metric}");
        }
    }

    #[test]
    fn constant_scores_score_at_chance() {
        let n = 500u32;
        let ranks: Vec<Rank> =
            (0..n).map(|i| Rank { above: 0, equal: n - 1, equal_before: i, masked: false }).collect();
        let m = means(ranks.iter(), &EvalConfig::default());
        assert!((m["hr@10"] - 10.0 / 500.0).abs() < 1e-12, "{m:?}");
        let by_id = means(ranks.iter(), &EvalConfig { ties: Ties::ById, ..Default::default() });
        assert!((m["ndcg@10"] - by_id["ndcg@10"]).abs() < 1e-12);
    }
}
