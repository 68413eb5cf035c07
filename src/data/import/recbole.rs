//! Import of RecBole atomic files: TSV with a typed header (`user_id:token`), `.inter`, `.item`, `.user`.
//!
//! A row of `.inter` is either one interaction, or (as in UniSRec) one history of `item_id_list:token_seq` and
//! `item_id:token`: the list and the last item. Source: RecBole's documentation, "Atomic Files".

use super::feed::{self, Attributes, EventColumns};
use super::scan::InputFiles;
use super::table::{Layout, Table};
use super::{Input, Source};
use crate::data::build::Builder;
use crate::data::policy::Encoding;
use crate::error::{DataError, Result};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Column names and filters; the defaults are RecBole's.
#[derive(Debug, Clone)]
pub struct Options {
    /// User id column in `.inter` and `.user`.
    pub user: String,
    /// Item id column in `.inter` and `.item`.
    pub item: String,
    /// Timestamp column; by default `timestamp` if the file has it.
    pub time: Option<String>,
    /// Rating column, used with `min_rating`.
    pub rating: String,
    /// Text columns, joined by a space; by default the title column.
    pub text: Vec<String>,
    /// Minimum rating; interactions with a lower rating are left out.
    pub min_rating: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            user: "user_id".into(),
            item: "item_id".into(),
            time: None,
            rating: "rating".into(),
            text: Vec::new(),
            min_rating: None,
        }
    }
}

/// Source of a data set in RecBole's atomic files.
#[derive(Debug)]
pub struct RecBole {
    inter: PathBuf,
    item: Option<PathBuf>,
    user: Option<PathBuf>,
    options: Options,
}

/// Default text columns: those with one of these names, or with a name that ends with `_title`.
const TEXTS: [&str; 4] = ["title", "name", "text", "item_name"];

impl RecBole {
    /// Finds the input files.
    ///
    /// # Errors
    /// No `.inter` file, or several.
    pub fn new(given: &InputFiles, options: Options) -> Result<Self> {
        Ok(Self {
            inter: given
                .require("--interactions", given.interactions.as_ref(), "`.inter` file", |n| n.ends_with(".inter"))?,
            item: given.find("--items", given.items.as_ref(), |n| n.ends_with(".item"))?,
            user: given.find("--users", given.users.as_ref(), |n| n.ends_with(".user"))?,
            options,
        })
    }

    /// Opens an atomic file as a table; the types are removed from the column names.
    fn open(&self, path: &PathBuf, encoding: Encoding) -> Result<Table> {
        let mut table = Table::open(path, Layout::tsv(true), encoding)?;
        for name in &mut table.columns {
            let typed = name.rsplit_once(':').filter(|(_, t)| ["token", "token_seq", "float", "float_seq"].contains(t));
            let Some((bare, _)) = typed else {
                let m = "the header gives no type (token, token_seq, float, float_seq)";
                let e = DataError::new(path, m).line(1).field(name.as_str());
                return Err(e.remedy("write it as `name:type`, or import with `--format tsv`").into());
            };
            *name = bare.to_string();
        }
        Ok(table)
    }

    fn text_columns(&self, table: &Table) -> Result<Vec<String>> {
        if !self.options.text.is_empty() {
            return Ok(self.options.text.clone());
        }
        let is_text = |c: &&String| TEXTS.contains(&c.as_str()) || c.ends_with("_title");
        match table.columns.iter().filter(is_text).collect::<Vec<_>>()[..] {
            [one] => Ok(vec![one.clone()]),
            _ => {
                let m = format!("cannot tell which column is the text; the file has: {}", table.columns.join(", "));
                Err(DataError::new(table.path(), m).line(1).remedy("pass `--text-cols NAME[,NAME]`").into())
            }
        }
    }
}

impl Source for RecBole {
    fn inputs(&self) -> Vec<Input> {
        Input::list(&self.inter, self.item.as_ref(), self.user.as_ref())
    }
    fn config(&self) -> Value {
        let o = &self.options;
        json!({ "format": "recbole", "user": o.user, "item": o.item, "time": o.time, "rating": o.rating,
                "text": o.text, "min_rating": o.min_rating })
    }
    fn items(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.item else { return Ok(()) };
        let table = self.open(path, b.policy().encoding)?;
        let text = self.text_columns(&table)?;
        feed::items(table, &self.options.item, &text, &Attributes::All, b)
    }
    fn interactions(&self, b: &mut Builder<'_>) -> Result<()> {
        let o = &self.options;
        let table = self.open(&self.inter, b.policy().encoding)?;
        let list = format!("{}_list", o.item);
        if table.columns.contains(&list) {
            return feed::sequences(table, &o.user, &list, Some(&o.item), b);
        }
        let time = o.time.clone().or_else(|| table.columns.contains(&"timestamp".into()).then(|| "timestamp".into()));
        let columns = EventColumns { user: o.user.clone(), item: o.item.clone(), time, rating: Some(o.rating.clone()) };
        feed::events(table, &columns, o.min_rating, b)
    }
    fn users(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.user else { return Ok(()) };
        let table = self.open(path, b.policy().encoding)?;
        feed::users(table, &self.options.user, &Attributes::All, b)
    }
}
