//! Tables of results.

use super::output;
use crate::eval::Report;
use crate::experiment::RunResult;
use serde::Serialize;

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

/// The comparison, metrics in per cent, protocol below.
pub fn comparison(rows: &[Row], ks: &[usize]) -> String {
    let mut text = output::table(&lines(rows, ks));
    if !rows.is_empty() {
        text += &(protocol_line(rows) + "\n");
    }
    text
}

/// How the rows were measured.
pub fn protocol_line(rows: &[Row]) -> String {
    rows.first().map_or(String::new(), |r| format!("metrics in %; {} users; {}", r.test.users, r.test.protocol))
}

/// The table's cells, header first.
pub fn lines(rows: &[Row], ks: &[usize]) -> Vec<Vec<String>> {
    let mut lines = vec![vec!["method".to_string()]];
    for k in ks {
        lines[0].extend([format!("HR@{k}"), format!("NDCG@{k}")]);
    }
    lines[0].extend(["cold NDCG", "trained", "of", "epochs", "s/epoch", "memory"].map(String::from));
    let kmax = ks.iter().copied().find(|k| *k == 10).or(ks.last().copied()).unwrap_or(10);
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
            None => line.extend((0..5).map(|_| dash())),
            Some(run) => line.extend([
                run.parameters.0.to_string(),
                run.parameters.1.to_string(),
                run.epochs.to_string(),
                run.epoch_seconds.map_or_else(dash, |s| format!("{s:.1}")),
                run.peak_memory.map_or_else(dash, output::bytes),
            ]),
        }
        lines.push(line);
    }
    lines
}
