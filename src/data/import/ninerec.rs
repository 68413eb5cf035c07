//! Import of NineRec: `X_pair.csv` (no header) or `X_behaviour.tsv`, and `X_item.csv` (no header: id, Chinese, English;
//! quoted).
//!
//! According to NineRec's README the columns of the pairs are user, item, timestamp; its script reads item, user,
//! timestamp. The order must therefore be given. `X_user.csv` (header, first column the user id) is an extension of
//! this crate.

use super::feed::{self, Attributes, EventColumns};
use super::morec::{behaviours, is_behaviours};
use super::scan::InputFiles;
use super::table::{Layout, Table};
use super::{Input, Source};
use crate::data::build::Builder;
use crate::error::{DataError, Error, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Language of the item text to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Language {
    /// English.
    #[default]
    En,
    /// Chinese.
    Zh,
}

/// Source of a data set in the layout of NineRec.
#[derive(Debug)]
pub struct NineRec {
    interactions: PathBuf,
    /// Order of the columns of the pairs file; empty for a behaviours file.
    pair: Vec<String>,
    items: Option<PathBuf>,
    users: Option<PathBuf>,
    language: Language,
}

const ALLOWED: [&str; 4] = ["user", "item", "timestamp", "_"];

impl NineRec {
    /// Finds the input files. A pairs file takes precedence over a behaviours file; `pair` is the order of its columns,
    /// where `_` is a column to ignore.
    ///
    /// # Errors
    /// A pairs file without `pair`; an order without user or item; no or several candidate files.
    pub fn new(given: &InputFiles, pair: &[String], language: Language) -> Result<Self> {
        let explicit = given.interactions.as_ref();
        let is_pair = |n: &str| n.ends_with("_pair.csv") || n == "pair.csv";
        let interactions = match given.find("--interactions", explicit, is_pair)? {
            Some(path) => path,
            None => {
                let what = "`…_pair.csv` or `…_behaviour.tsv`";
                given.require("--interactions", explicit, what, is_behaviours)?
            }
        };
        let lower = interactions.to_string_lossy().to_lowercase();
        let name = lower.strip_suffix(".gz").unwrap_or(&lower);
        let pairs = !name.ends_with(".tsv");
        if pairs {
            check_order(&interactions, pair)?;
        } else if !pair.is_empty() {
            return Err(Error::Usage(format!(
                "--pair-columns is for pairs, but {} holds behaviours",
                interactions.display()
            )));
        }
        let ends = |end: &'static str| move |n: &str| n.ends_with(end);
        Ok(Self {
            interactions,
            pair: if pairs { pair.to_vec() } else { Vec::new() },
            items: given.find("--items", given.items.as_ref(), ends("_item.csv"))?,
            users: given.find("--users", given.users.as_ref(), ends("_user.csv"))?,
            language,
        })
    }
}

fn check_order(path: &std::path::Path, pair: &[String]) -> Result<()> {
    let usage = |m: String| Err(Error::Usage(m));
    if pair.is_empty() {
        return usage(format!(
            "{}: NineRec's README and its own script disagree about the order of these columns, so it must be given: \
             pass --pair-columns user,item,timestamp or item,user,timestamp (look at the first line to see which)",
            path.display()
        ));
    }
    if let Some(odd) = pair.iter().find(|c| !ALLOWED.contains(&c.as_str())) {
        return usage(format!("--pair-columns: `{odd}` is not one of {}", ALLOWED.join(", ")));
    }
    for name in ["user", "item", "timestamp"] {
        let n = pair.iter().filter(|c| *c == name).count();
        if n > 1 || n == 0 && name != "timestamp" {
            return usage(format!(
                "--pair-columns names `{name}` {n} times; it must name user and item once, timestamp at most once"
            ));
        }
    }
    Ok(())
}

/// Renames the columns of a file without header; their number must equal the number of names.
fn rename(table: &mut Table, names: Vec<String>, remedy: &str) -> Result<()> {
    if table.columns.len() != names.len() {
        let m = format!("{} columns where {} are expected ({})", table.columns.len(), names.len(), names.join(", "));
        return Err(DataError::new(table.path(), m).line(1).remedy(remedy).into());
    }
    table.columns = names;
    Ok(())
}

impl Source for NineRec {
    fn inputs(&self) -> Vec<Input> {
        Input::list(&self.interactions, self.items.as_ref(), self.users.as_ref())
    }
    fn config(&self) -> Value {
        let language = if self.language == Language::En { "en" } else { "zh" };
        json!({ "format": "ninerec", "pair_columns": self.pair, "language": language })
    }
    fn items(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.items else { return Ok(()) };
        let mut table = Table::open(path, Layout::csv(false), b.policy().encoding)?;
        let names = ["id", "zh", "en"].map(String::from).to_vec();
        rename(&mut table, names, "the layout is id, Chinese text, English text; else import with `--format csv`")?;
        let text = if self.language == Language::En { "en" } else { "zh" };
        feed::items(table, "id", &[text.into()], &Attributes::Only(Vec::new()), b)
    }
    fn interactions(&self, b: &mut Builder<'_>) -> Result<()> {
        if self.pair.is_empty() {
            return behaviours(&self.interactions, b);
        }
        let mut table = Table::open(&self.interactions, Layout::csv(false), b.policy().encoding)?;
        // Ignored columns need distinct names.
        let names = self.pair.iter().enumerate().map(|(i, c)| if c == "_" { format!("_{i}") } else { c.clone() });
        rename(&mut table, names.collect(), "name each column in `--pair-columns`, `_` for one to ignore")?;
        let time = self.pair.iter().any(|c| c == "timestamp").then(|| "timestamp".to_string());
        let columns = EventColumns { user: "user".into(), item: "item".into(), time, rating: None };
        feed::events(table, &columns, None, b)
    }
    fn users(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.users else { return Ok(()) };
        let table = Table::open(path, Layout::csv(true), b.policy().encoding)?;
        let id = table.columns[0].clone();
        feed::users(table, &id, &Attributes::All, b)
    }
}
