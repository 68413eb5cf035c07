//! Tables of results.

use super::output;
use crate::config::{Config, Modality};
use crate::error::Result;
use crate::eval::Report;
use crate::eval::evaluate::GROUPS;
use crate::experiment::{self, Prepared, RunResult};
use crate::item::Encoders;
use crate::terminal;
use serde::Serialize;
use std::collections::BTreeSet;

/// A row of a comparison.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Name of the method.
    pub name: String,
    /// Its test metrics.
    pub test: Report,
    /// What it cost, for trained methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<RunResult>,
}

/// Rows of the baselines without training. Text-kNN needs the settings' encoder; if that is unavailable, it is omitted with a
/// note.
pub fn baselines(config: &Config, prepared: &Prepared, part: &str) -> Result<Vec<Row>> {
    let text = experiment::encoder_folder(config, Modality::Text).unwrap_or_else(|e| {
        terminal::message(&format!("text-kNN left out: {e}"));
        None
    });
    let encoders: Encoders = text.into_iter().collect();
    let rows = experiment::baseline_rows(config, prepared, encoders.text(), part)?;
    Ok(rows.into_iter().map(|(name, test)| Row { name, test, run: None }).collect())
}

/// The comparison, metrics in per cent, protocol below.
pub fn comparison(rows: &[Row], ks: &[usize]) -> String {
    let mut text = output::table(&lines(rows, ks));
    if !rows.is_empty() {
        text += &(protocol_line(rows) + "\n");
    }
    let rounded = rows.iter().filter_map(|r| r.run.as_ref()).flat_map(|r| &r.rounding);
    if let Some(worst) = rounded.max_by(|a, b| a.relative.total_cmp(&b.relative)) {
        text += &format!(
            "frozen encoders' output kept in f16: off by at most {:.1e}, {:.1e} of its norm\n",
            worst.largest, worst.relative
        );
    }
    text
}

/// Evaluation protocol of the rows, as a line below the table.
pub fn protocol_line(rows: &[Row]) -> String {
    rows.first().map_or(String::new(), |r| format!("metrics in %; {} users; {}", r.test.users, r.test.protocol))
}

/// The cut-off of columns that show one only: 10, or the last.
fn headline(ks: &[usize]) -> usize {
    ks.iter().copied().find(|k| *k == 10).or(ks.last().copied()).unwrap_or(10)
}

/// The table's cells, header first.
pub fn lines(rows: &[Row], ks: &[usize]) -> Vec<Vec<String>> {
    let mut lines = vec![vec!["method".to_string()]];
    for k in ks {
        lines[0].extend([format!("HR@{k}"), format!("NDCG@{k}")]);
    }
    lines[0].extend(["cold NDCG", "trained", "of", "%", "file", "epochs", "s/epoch", "memory"].map(String::from));
    let kmax = headline(ks);
    for r in rows {
        let pc = |m: &str, k: usize| format!("{:.2}", 100.0 * r.test.get(&format!("{m}@{k}")));
        let mut line = vec![r.name.clone()];
        for &k in ks {
            line.extend([pc("hr", k), pc("ndcg", k)]);
        }
        let cold = r.test.groups.get("cold").and_then(|(_, m)| m.get(&format!("ndcg@{kmax}")).copied());
        line.push(cold.map_or("-".into(), |v| format!("{:.2}", 100.0 * v + 0.0)));
        let dash = || "-".to_string();
        match &r.run {
            None => line.extend((0..7).map(|_| dash())),
            Some(run) => line.extend([
                run.parameters.0.to_string(),
                run.parameters.1.to_string(),
                format!("{:.2}", 100.0 * run.parameters.0 as f64 / run.parameters.1.max(1) as f64),
                run.model_bytes.map_or_else(dash, output::bytes),
                run.epochs.to_string(),
                run.epoch_seconds.map_or_else(dash, |s| format!("{s:.1}")),
                run.peak_memory.map_or_else(dash, output::bytes),
            ]),
        }
        lines.push(line);
    }
    lines
}

/// Detailed results: recommendation lists, groups of targets and histories, sampled candidates.
pub fn detail(rows: &[Row], ks: &[usize]) -> String {
    let k = headline(ks);
    let metric = format!("ndcg@{k}");
    let held = |g: &&str| rows.iter().any(|r| r.test.groups.contains_key(*g));
    let groups: Vec<&str> = GROUPS.into_iter().filter(held).collect();
    let drawn = |m: &&String| m.starts_with(&format!("hr@{k}[")) || m.starts_with(&format!("ndcg@{k}["));
    let sampled: BTreeSet<&String> = rows.iter().flat_map(|r| r.test.all.keys()).filter(drawn).collect();
    let percent = |v: Option<&f64>| v.map_or("-".to_string(), |v| format!("{:.2}", 100.0 * v + 0.0));
    let mut lines = vec![["method", "coverage", "popularity", "diversity"].map(String::from).to_vec()];
    lines[0].extend(groups.iter().map(|g| g.replace("history ", "after ")));
    lines[0].extend(sampled.iter().map(|m| m.to_uppercase().replace("[UNI", "[uni").replace("[POP", "[pop")));
    for r in rows {
        let lists = r.test.lists.as_ref();
        let mut line = vec![r.name.clone(), percent(lists.map(|l| &l.coverage))];
        line.push(lists.map_or("-".into(), |l| format!("{:.1}", l.popularity)));
        line.push(lists.and_then(|l| l.diversity).map_or("-".into(), |d| format!("{d:.3}")));
        line.extend(groups.iter().map(|g| percent(r.test.groups.get(*g).and_then(|(_, m)| m.get(&metric)))));
        line.extend(sampled.iter().map(|m| percent(r.test.all.get(m.as_str()))));
        lines.push(line);
    }
    let mut text = output::table(&lines);
    if let Some(l) = rows.first().and_then(|r| r.test.lists.as_ref()) {
        text += &format!(
            "lists of {}: coverage = % of the catalogue offered to anybody; popularity = mean training events of the offers \
             (of the targets: {:.1}); diversity = mean 1 − cosine of two offers by the method's own item vectors\n",
            l.k, l.target_popularity
        );
    }
    let sizes = |(g, (n, _)): (&String, &(usize, _))| format!("{g}: {n}");
    if let Some(r) = rows.first() {
        let all: Vec<String> = r.test.groups.iter().map(sizes).collect();
        text += &format!(
            "groups: NDCG@{k} in %, by the target's training events (cold: none; hot: the items that hold half of them) and by \
             events before it; users: {}\n",
            all.join(", ")
        );
    }
    if !sampled.is_empty() {
        text += "[uniN], [popN]: among N drawn candidates only, not comparable with full ranking\n";
    }
    text
}
