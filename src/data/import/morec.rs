//! Import of MoRec, Adapter4Rec and IISAN: TSV without headers, `user⇥item item …` (oldest first) and
//! `id⇥title[⇥abstract]`.

use super::feed::{self, Attributes};
use super::scan::InputFiles;
use super::table::{Layout, Table};
use super::{Input, Source};
use crate::data::build::Builder;
use crate::error::{DataError, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Source of a data set in the layout of MoRec.
#[derive(Debug)]
pub struct MoRec {
    behaviours: PathBuf,
    items: Option<PathBuf>,
    /// Text columns to use, among `title`, `abstract`.
    text: Vec<String>,
}

/// Whether a file name (lower case) is that of a behaviours file.
pub(super) fn is_behaviours(name: &str) -> bool {
    (name.ends_with(".tsv") || name.ends_with(".txt"))
        && ["users", "behaviour", "behavior"].iter().any(|k| name.contains(k))
}

impl MoRec {
    /// Finds the input files; `text` names the text columns to join, by default `title`.
    ///
    /// # Errors
    /// No behaviours file, or several.
    pub fn new(given: &InputFiles, text: &[String]) -> Result<Self> {
        let text = if text.is_empty() { vec!["title".into()] } else { text.to_vec() };
        let is_items = |n: &str| (n.ends_with(".tsv") || n.ends_with(".txt")) && n.contains("items");
        let what = "file of behaviours (`…users.tsv`, `…behaviour.tsv`)";
        Ok(Self {
            behaviours: given.require("--interactions", given.interactions.as_ref(), what, is_behaviours)?,
            items: given.find("--items", given.items.as_ref(), is_items)?,
            text,
        })
    }
}

/// Feeds a behaviours file to the builder.
pub(super) fn behaviours(path: &PathBuf, b: &mut Builder<'_>) -> Result<()> {
    let mut table = Table::open(path, Layout::tsv(false), b.policy().encoding)?;
    if table.columns.len() != 2 {
        let m =
            format!("{} columns where 2 are expected: user, then the items separated by spaces", table.columns.len());
        return Err(DataError::new(path, m).line(1).remedy("check the file, or import with `--format tsv`").into());
    }
    table.columns = vec!["user".into(), "items".into()];
    feed::sequences(table, "user", "items", None, b)
}

impl Source for MoRec {
    fn inputs(&self) -> Vec<Input> {
        Input::list(&self.behaviours, self.items.as_ref(), None)
    }
    fn config(&self) -> Value {
        json!({ "format": "morec", "text": self.text })
    }
    fn items(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.items else { return Ok(()) };
        let mut table = Table::open(path, Layout::tsv(false), b.policy().encoding)?;
        let name = |i: usize| match i {
            0 => "id".into(),
            1 => "title".into(),
            2 => "abstract".into(),
            _ => format!("column_{}", i + 1),
        };
        table.columns = (0..table.columns.len()).map(name).collect();
        feed::items(table, "id", &self.text, &Attributes::All, b)
    }
    fn interactions(&self, b: &mut Builder<'_>) -> Result<()> {
        behaviours(&self.behaviours, b)
    }
}
