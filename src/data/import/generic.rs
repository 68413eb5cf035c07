//! Import of CSV, TSV, JSON lines or Parquet files with a column map.

use super::feed::{self, Attributes, EventColumns};
use super::scan::InputFiles;
use super::table::{Layout, Table};
use super::{Input, Source};
use crate::data::build::Builder;
use crate::error::{Error, Result};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Column map, by column name (or by number from 1 in files without header).
#[derive(Debug, Clone, Default)]
pub struct ColumnMap {
    /// Columns of the interactions file: user, item, timestamp, rating.
    pub events: EventColumns,
    /// Minimum rating; interactions with a lower rating are left out.
    pub min_rating: Option<f64>,
    /// Id column of the items file; by default the item column of the interactions.
    pub item_id: Option<String>,
    /// Text columns of the items file, joined by a space. Required with an items file.
    pub text: Vec<String>,
    /// Attribute columns of the items file.
    pub attributes: Attributes,
    /// Id column of the users file; by default the user column of the interactions.
    pub user_id: Option<String>,
    /// Attribute columns of the users file.
    pub user_attributes: Attributes,
}

/// Source of a data set in CSV, TSV, JSON lines or Parquet files.
#[derive(Debug)]
pub struct Generic {
    interactions: PathBuf,
    items: Option<PathBuf>,
    users: Option<PathBuf>,
    layout: Layout,
    map: ColumnMap,
}

impl Generic {
    /// Finds the input files: the named ones, or `interactions.*`, `items.*`, `users.*` in a folder.
    ///
    /// # Errors
    /// No file or several files for a role; an items file without text columns.
    pub fn new(given: &InputFiles, layout: Layout, map: ColumnMap) -> Result<Self> {
        let fits = |stem: &'static str| {
            move |n: &str| n.split_once('.').is_some_and(|(s, e)| s == stem && extension_fits(layout, e))
        };
        let what = "`interactions.*` file of this format";
        let source = Self {
            interactions: given.require("--interactions", given.interactions.as_ref(), what, fits("interactions"))?,
            items: given.find("--items", given.items.as_ref(), fits("items"))?,
            users: given.find("--users", given.users.as_ref(), fits("users"))?,
            layout,
            map,
        };
        if let Some(items) = source.items.as_ref().filter(|_| source.map.text.is_empty()) {
            let columns = Table::open(items, layout, Default::default()).map(|t| t.columns.join(", "));
            let has = columns.map(|c| format!(" (it has: {c})")).unwrap_or_default();
            let m = format!(
                "{}: pass --text-cols NAME[,NAME] to say which columns are the items' text{has}",
                items.display()
            );
            return Err(Error::Usage(m));
        }
        Ok(source)
    }

    fn open(&self, path: &Path, b: &Builder<'_>) -> Result<Table> {
        Table::open(path, self.layout, b.policy().encoding)
    }
}

fn extension_fits(layout: Layout, extension: &str) -> bool {
    match layout {
        Layout::Delimited { .. } => ["csv", "tsv", "txt"].contains(&extension),
        Layout::Jsonl => ["jsonl", "json", "ndjson"].contains(&extension),
        Layout::Parquet => extension == "parquet",
    }
}

impl Source for Generic {
    fn inputs(&self) -> Vec<Input> {
        Input::list(&self.interactions, self.items.as_ref(), self.users.as_ref())
    }
    fn config(&self) -> Value {
        let layout = match self.layout {
            Layout::Delimited { delimiter, quotes, header } => {
                json!({ "delimiter": char::from(delimiter).to_string(), "quotes": quotes, "header": header })
            }
            Layout::Jsonl => json!("jsonl"),
            Layout::Parquet => json!("parquet"),
        };
        let m = &self.map;
        json!({
            "format": "generic", "layout": layout, "user": m.events.user, "item": m.events.item, "time": m.events.time,
            "rating": m.events.rating, "min_rating": m.min_rating, "item_id": m.item_id, "text": m.text,
            "attributes": m.attributes, "user_id": m.user_id, "user_attributes": m.user_attributes,
        })
    }
    fn items(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.items else { return Ok(()) };
        let id = self.map.item_id.as_ref().unwrap_or(&self.map.events.item);
        feed::items(self.open(path, b)?, id, &self.map.text, &self.map.attributes, b)
    }
    fn interactions(&self, b: &mut Builder<'_>) -> Result<()> {
        feed::events(self.open(&self.interactions, b)?, &self.map.events, self.map.min_rating, b)
    }
    fn users(&self, b: &mut Builder<'_>) -> Result<()> {
        let Some(path) = &self.users else { return Ok(()) };
        let id = self.map.user_id.as_ref().unwrap_or(&self.map.events.user);
        feed::users(self.open(path, b)?, id, &self.map.user_attributes, b)
    }
}
