//! Comparison of finished runs: means over seeds, and significance tests on the same users.

use super::result::{RunResult, result_of};
use crate::config::{EvalConfig, Ties};
use crate::error::{Error, Result};
use crate::eval::metrics::{Metrics, gain_of, means};
use crate::eval::ranks_file::{self, Ranks};
use crate::eval::significance::{Paired, holm, paired};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A method: one run, or several runs that differ in their seed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Method {
    /// Name of the method in the table.
    pub label: String,
    /// Run folders of the method.
    pub runs: Vec<PathBuf>,
}

/// Results of one method in a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// Name of the method.
    pub method: String,
    /// Number of runs (seeds).
    pub runs: usize,
    /// Mean of each metric over the runs.
    pub metrics: Metrics,
    /// Standard deviation of each metric over the runs (n − 1); `None` for one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deviation: Option<Metrics>,
    /// Number of trainable parameters, where known.
    pub trained: Option<usize>,
    /// Paired test against the reference method; `None` for the reference itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<Paired>,
    /// p-values of t-test, Wilcoxon test and bootstrap, corrected over all methods (Holm).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holm: Option<[f64; 3]>,
}

/// Comparison of several methods.
#[derive(Debug, Clone, Serialize)]
pub struct Comparison {
    /// Evaluation protocol common to all runs.
    pub protocol: String,
    /// Number of users.
    pub users: usize,
    /// Metric that the tests compare.
    pub metric: String,
    /// Name of the reference method.
    pub reference: String,
    /// Cut-offs K of the table.
    pub ks: Vec<usize>,
    /// Results of the methods, in the order given.
    pub lines: Vec<Line>,
}

struct Run {
    dir: PathBuf,
    result: RunResult,
    ranks: Ranks,
    ties: Ties,
}

impl Run {
    fn open(dir: &Path) -> Result<Self> {
        let result = result_of(dir).ok_or_else(|| {
            let path = dir.join("result.json");
            match path.exists() {
                true => Error::model(path, "damaged; `morec train … --resume` writes it again"),
                false => Error::model(dir, "no result.json: not a finished run; `morec train … --resume` finishes it"),
            }
        })?;
        let config = crate::config::load_stored(dir)?;
        let ranks = ranks_file::read(&dir.join("ranks.parquet"))?;
        Ok(Self { dir: dir.into(), result, ranks, ties: config.eval.ties })
    }
    /// Refuses runs that were not evaluated on the same cases under the same protocol.
    fn check_against(&self, first: &Self) -> Result<()> {
        let bad = |m: String| Err(Error::Usage(format!("{} and {}: {m}", first.dir.display(), self.dir.display())));
        let (a, b) = (&first.result.test.protocol, &self.result.test.protocol);
        if a != b {
            return bad(format!("not measured in the same way: `{a}`, `{b}`"));
        }
        if first.ranks.users.len() != self.ranks.users.len() {
            return bad(format!("{} and {} users tested", first.ranks.users.len(), self.ranks.users.len()));
        }
        let pairs = |r: &'_ Ranks, i: usize| (r.users[i].clone(), r.items[i].clone());
        match (0..self.ranks.users.len()).find(|&i| pairs(&first.ranks, i) != pairs(&self.ranks, i)) {
            None => Ok(()),
            Some(i) => bad(format!(
                "question {} is (user {}, item {}) in one, (user {}, item {}) in the other: another split or data set",
                i + 1,
                first.ranks.users[i],
                first.ranks.items[i],
                self.ranks.users[i],
                self.ranks.items[i]
            )),
        }
    }
    fn metrics(&self, ks: &[usize]) -> Metrics {
        let eval = EvalConfig { ks: ks.to_vec(), ties: self.ties, ..Default::default() };
        means(self.ranks.ranks.iter(), &eval)
    }
    fn gains(&self, metric: &str, k: usize) -> impl Iterator<Item = f64> {
        self.ranks.ranks.iter().map(move |r| gain_of(r, metric, k, self.ties))
    }
}

/// Compares methods at cut-offs `ks`; the others are tested against the one named `reference` by `metric` (`ndcg@10`).
pub fn compare(methods: &[Method], ks: &[usize], metric: &str, reference: &str, seed: u64) -> Result<Comparison> {
    let (name, k) = crate::config::metric(metric, ks).map_err(|e| Error::Usage(format!("--metric: {e}")))?;
    let at = methods.iter().position(|m| m.label == reference).ok_or_else(|| {
        let known: Vec<&str> = methods.iter().map(|m| m.label.as_str()).collect();
        Error::Usage(format!("--reference {reference}: the methods are {}", known.join(", ")))
    })?;
    let open = |m: &Method| m.runs.iter().map(|r| Run::open(r)).collect::<Result<Vec<_>>>();
    let all = methods.iter().map(open).collect::<Result<Vec<_>>>()?;
    let first = all.iter().flatten().next().ok_or_else(|| Error::Usage("no run to compare".into()))?;
    all.iter().flatten().try_for_each(|r| r.check_against(first))?;
    let (protocol, users) = (first.result.test.protocol.clone(), first.ranks.users.len());
    // One value per user: the mean over the method's seeds.
    let per_user = |runs: &[Run]| -> Vec<f64> {
        let mut sum = vec![0f64; users];
        for r in runs {
            sum.iter_mut().zip(r.gains(&name, k)).for_each(|(s, g)| *s += g / runs.len() as f64);
        }
        sum
    };
    let base = per_user(&all[at]);
    let mut lines: Vec<Line> = methods
        .iter()
        .zip(&all)
        .enumerate()
        .map(|(i, (m, runs))| {
            let each: Vec<Metrics> = runs.iter().map(|r| r.metrics(ks)).collect();
            let n = each.len() as f64;
            let over = |f: &dyn Fn(&str) -> f64| each[0].keys().map(|key| (key.clone(), f(key))).collect::<Metrics>();
            let mean = |key: &str| each.iter().map(|e| e[key]).sum::<f64>() / n;
            let spread = |key: &str| {
                let m = mean(key);
                (each.iter().map(|e| (e[key] - m).powi(2)).sum::<f64>() / (n - 1.0)).sqrt()
            };
            Line {
                method: m.label.clone(),
                runs: runs.len(),
                metrics: over(&mean),
                deviation: (each.len() > 1).then(|| over(&spread)),
                trained: runs.first().map(|r| r.result.parameters.0),
                against: (i != at).then(|| paired(&per_user(runs), &base, seed)),
                holm: None,
            }
        })
        .collect();
    let pick =
        |f: &dyn Fn(&Paired) -> f64| holm(&lines.iter().filter_map(|l| l.against.as_ref().map(f)).collect::<Vec<_>>());
    let corrected = [pick(&|p| p.p_t), pick(&|p| p.p_wilcoxon), pick(&|p| p.p_bootstrap)];
    for (j, line) in lines.iter_mut().filter(|l| l.against.is_some()).enumerate() {
        line.holm = Some([corrected[0][j], corrected[1][j], corrected[2][j]]);
    }
    let (metric, reference, ks) = (metric.to_lowercase(), reference.to_string(), ks.to_vec());
    Ok(Comparison { protocol, users, metric, reference, ks, lines })
}
