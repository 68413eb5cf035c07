//! `morec compare`: finished runs in one table, with tests of significance.

use super::output;
use super::settings::Threads;
use crate::error::{Error, Result};
use crate::experiment::compare::{Comparison, Line, Method, compare};
use clap::{Args, ValueEnum};
use std::path::{Path, PathBuf};

/// Compare finished runs: means over seeds, significance over users
///
/// Every run has to be tested on the same questions in the same way. The p-values of the paired t-test, Wilcoxon's
/// signed-rank test and the paired bootstrap are corrected for the number of comparisons (Holm).
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// RUN, LABEL=RUN, or LABEL=RUN,RUN,… for several seeds of one method
    #[arg(value_name = "METHOD", required = true)]
    methods: Vec<String>,
    /// The method the others are tested against [default: the first]
    #[arg(long, value_name = "LABEL")]
    reference: Option<String>,
    /// Metric of the tests: hr@K, ndcg@K, mrr@K, recall@K
    #[arg(long, default_value = "ndcg@10")]
    metric: String,
    /// Cut-offs K
    #[arg(long, value_delimiter = ',', default_values_t = [5, 10, 20])]
    ks: Vec<usize>,
    /// Fixes the bootstrap
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    threads: Threads,
    /// How the table is written
    #[arg(long, value_enum, default_value_t = Format::Terminal)]
    format: Format,
    /// Print the result as JSON
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Terminal,
    Markdown,
    Csv,
    Latex,
}

/// Runs `morec compare`.
///
/// # Errors
/// A run without a result, runs evaluated under different protocols, an unknown metric.
pub fn run(args: &CompareArgs) -> Result<()> {
    args.threads.apply()?;
    let methods = args.methods.iter().map(|m| method(m)).collect::<Result<Vec<_>>>()?;
    for (i, m) in methods.iter().enumerate() {
        if methods[..i].iter().any(|o| o.label == m.label) {
            let m = format!("two methods are called `{}`; LABEL=RUN gives them names", m.label);
            return Err(Error::Usage(m));
        }
    }
    if args.ks.contains(&0) {
        return Err(Error::Usage("--ks: each cut-off has to be at least 1".into()));
    }
    let reference = args.reference.clone().unwrap_or_else(|| methods[0].label.clone());
    let c = compare(&methods, &args.ks, &args.metric, &reference, args.seed)?;
    if args.json {
        return output::print_json(&c);
    }
    output::print(&write(&c, args.format))
}

/// `LABEL=RUN,RUN` or a path alone (whose last two parts are the label).
fn method(text: &str) -> Result<Method> {
    let (label, runs) = match text.split_once('=') {
        Some((label, runs)) if !Path::new(text).exists() => (label.to_string(), runs),
        _ => (text.trim_end_matches('/').to_string(), text),
    };
    let runs: Vec<PathBuf> = if Path::new(runs).exists() {
        vec![runs.into()]
    } else {
        runs.split(',').filter(|r| !r.is_empty()).map(PathBuf::from).collect()
    };
    if runs.is_empty() || label.is_empty() {
        return Err(Error::Usage(format!("`{text}`: RUN, LABEL=RUN or LABEL=RUN,RUN is expected")));
    }
    Ok(Method { label, runs })
}

fn cells(c: &Comparison, l: &Line) -> Vec<String> {
    let mut row = vec![l.method.clone(), l.runs.to_string()];
    for k in &c.ks {
        for m in ["hr", "ndcg"] {
            let key = format!("{m}@{k}");
            let mean = format!("{:.2}", 100.0 * l.metrics[&key]);
            row.push(match &l.deviation {
                Some(d) => format!("{mean} ± {:.2}", 100.0 * d[&key]),
                None => mean,
            });
        }
    }
    match (&l.against, &l.holm) {
        (Some(p), Some(h)) => {
            row.push(format!("{:+.2}", 100.0 * p.difference));
            row.push(format!("{:+.2} to {:+.2}", 100.0 * p.interval.0, 100.0 * p.interval.1));
            row.extend(h.iter().map(|p| if *p < 1e-4 { "<0.0001".into() } else { format!("{p:.4}") }));
        }
        _ => row.extend(["reference", "", "", "", ""].map(String::from)),
    }
    row
}

fn head(c: &Comparison) -> Vec<String> {
    let mut row = vec!["method".to_string(), "runs".into()];
    c.ks.iter().for_each(|k| row.extend([format!("HR@{k}"), format!("NDCG@{k}")]));
    let name = c.metric.to_uppercase();
    row.extend([format!("Δ {name}"), "95 %".into(), "p t".into(), "p Wilcoxon".into(), "p bootstrap".into()]);
    row
}

fn write(c: &Comparison, format: Format) -> String {
    let note = format!(
        "metrics in %; {} users; {}; Δ and p of {} against `{}`, paired over users, p after Holm",
        c.users, c.protocol, c.metric, c.reference
    );
    let rows: Vec<Vec<String>> = std::iter::once(head(c)).chain(c.lines.iter().map(|l| cells(c, l))).collect();
    match format {
        Format::Terminal => output::table(&rows) + &note + "\n",
        Format::Markdown => {
            let line = |r: &Vec<String>| format!("| {} |\n", r.join(" | ").replace('\n', " "));
            let rule = format!("|{}\n", "---|".repeat(rows[0].len()));
            line(&rows[0]) + &rule + &rows[1..].iter().map(line).collect::<String>() + "\n" + &note + "\n"
        }
        Format::Csv => {
            let quote = |v: &String| {
                if v.contains([',', '"', '\n']) { format!("\"{}\"", v.replace('"', "\"\"")) } else { v.clone() }
            };
            let line = |r: &Vec<String>| r.iter().map(quote).collect::<Vec<_>>().join(",") + "\n";
            format!("# {note}\n") + &rows.iter().map(line).collect::<String>()
        }
        Format::Latex => {
            let escape = |v: &String| {
                let mut out = String::new();
                for ch in v.chars() {
                    match ch {
                        '%' | '&' | '_' | '#' | '$' | '{' | '}' => out.extend(['\\', ch]),
                        '\\' => out.push_str("\\textbackslash{}"),
                        '~' => out.push_str("\\textasciitilde{}"),
                        '^' => out.push_str("\\textasciicircum{}"),
                        'Δ' => out.push_str("$\\Delta$"),
                        '±' => out.push_str("$\\pm$"),
                        '<' => out.push_str("$<$"),
                        c => out.push(c),
                    }
                }
                out
            };
            let line = |r: &Vec<String>| r.iter().map(escape).collect::<Vec<_>>().join(" & ") + " \\\\\n";
            format!(
                "% {note}\n\\begin{{tabular}}{{l{}}}\n\\hline\n{}\\hline\n{}\\hline\n\\end{{tabular}}\n",
                "r".repeat(rows[0].len() - 1),
                line(&rows[0]),
                rows[1..].iter().map(line).collect::<String>()
            )
        }
    }
}
