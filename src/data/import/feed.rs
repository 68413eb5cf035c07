//! Passes rows of tables to the builder. All formats use these functions once the roles of the columns are known.

use super::table::Table;
use crate::data::build::{Builder, SourceLocation};
use crate::data::time;
use crate::error::{Error, Result};

/// Names of the columns of an interactions table, by role.
#[derive(Debug, Clone, Default)]
pub struct EventColumns {
    /// Column of user ids.
    pub user: String,
    /// Column of item ids.
    pub item: String,
    /// Column of timestamps; `None`: the interactions of a user are in file order.
    pub time: Option<String>,
    /// Column of ratings; used only with a minimum rating.
    pub rating: Option<String>,
}

/// Selection of the columns that become attributes.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
#[serde(untagged)]
pub enum Attributes {
    /// All columns without another role.
    #[default]
    All,
    /// The named columns.
    Only(Vec<String>),
}

macro_rules! location {
    ($path:expr, $table:expr) => {
        SourceLocation { file: &$path, line: $table.line() }
    };
}

/// Adds one interaction per row; rows rated below `min_rating` are left out.
pub fn events(mut table: Table, columns: &EventColumns, min_rating: Option<f64>, b: &mut Builder<'_>) -> Result<()> {
    let path = table.path().to_path_buf();
    let user = table.find(&columns.user, "--user-col")?;
    let item = table.find(&columns.item, "--item-col")?;
    let time = columns.time.as_ref().map(|c| table.find(c, "--time-col")).transpose()?;
    let rating = match (&columns.rating, min_rating) {
        (Some(c), Some(min)) => Some((table.find(c, "--rating-col")?, min)),
        (None, Some(_)) => {
            return Err(Error::Usage("--min-rating needs a column of ratings: pass --rating-col".into()));
        }
        _ => None,
    };
    while table.advance(&mut b.intake)? {
        if let Some((column, min)) = rating {
            let text = table.get(column).trim();
            match text.parse::<f64>() {
                Ok(r) if r.is_finite() && r < min => {
                    b.note(
                        "below_min_rating",
                        "interactions are rated below --min-rating; left out",
                        location!(path, table),
                        "",
                    );
                    continue;
                }
                Ok(r) if r.is_finite() => {}
                _ => {
                    let e = table.error(&table.columns[column], format!("`{text}` is not a rating"));
                    b.intake.malformed(e.remedy("mend the row, or pass `--skip-malformed N`"))?;
                    continue;
                }
            }
        }
        let stamp = match time {
            None => None,
            Some(column) => match time::parse(table.get(column)) {
                Ok(parsed) => {
                    if parsed.fractional {
                        let m = "timestamps have a fraction; rounded down";
                        b.note("fractional_timestamps", m, location!(path, table), table.get(column));
                    }
                    Some(parsed.value)
                }
                Err(message) => {
                    let remedy = "timestamps are Unix times: convert dates first, pass the right `--time-col`, or `--skip-malformed N`";
                    b.intake.malformed(table.error(&table.columns[column], message).remedy(remedy))?;
                    continue;
                }
            },
        };
        b.interaction(location!(path, table), table.get(user), table.get(item), stamp)?;
    }
    Ok(())
}

/// Adds one user history per row: a column of space-separated item ids, and optionally a column with the last item.
pub fn sequences(mut table: Table, user: &str, list: &str, last: Option<&str>, b: &mut Builder<'_>) -> Result<()> {
    let path = table.path().to_path_buf();
    let user = table.find(user, "--user-col")?;
    let list = table.find(list, "--item-col")?;
    let last = last.map(|c| table.find(c, "--item-col")).transpose()?;
    while table.advance(&mut b.intake)? {
        let items = table.get(list).split_whitespace();
        match last {
            None => b.sequence(location!(path, table), table.get(user), items)?,
            Some(column) => {
                let target = table.get(column).trim();
                if target.is_empty() || target.contains(char::is_whitespace) {
                    let e = table.error(&table.columns[column], format!("`{target}` is not one item id"));
                    b.intake.malformed(e.remedy("mend the row, or pass `--skip-malformed N`"))?;
                    continue;
                }
                b.sequence(location!(path, table), table.get(user), items.chain([target]))?;
            }
        }
    }
    Ok(())
}

fn others(table: &Table, used: &[usize], attributes: &Attributes, option: &str) -> Result<Vec<usize>> {
    match attributes {
        Attributes::All => {
            let named = |i: &usize| !used.contains(i) && !table.columns[*i].is_empty();
            Ok((0..table.columns.len()).filter(named).collect())
        }
        Attributes::Only(names) => names.iter().map(|n| table.find(n, option)).collect(),
    }
}

fn names<'t>(table: &'t Table, columns: &[usize]) -> Vec<&'t str> {
    columns.iter().map(|&c| table.columns[c].as_str()).collect()
}

/// Adds the catalogue; an item's text is its text columns joined by a space, in the given order.
pub fn items(mut table: Table, id: &str, text: &[String], attributes: &Attributes, b: &mut Builder<'_>) -> Result<()> {
    let path = table.path().to_path_buf();
    let id = table.find(id, "--item-id-col")?;
    let text = text.iter().map(|c| table.find(c, "--text-cols")).collect::<Result<Vec<_>>>()?;
    let used: Vec<usize> = text.iter().copied().chain([id]).collect();
    let rest = others(&table, &used, attributes, "--attribute-cols")?;
    b.item_attributes(&names(&table, &rest));
    let mut joined = String::new();
    while table.advance(&mut b.intake)? {
        joined.clear();
        for &c in &text {
            let part = table.get(c);
            if !joined.is_empty() && !part.is_empty() {
                joined.push(' ');
            }
            joined.push_str(part);
        }
        let values: Vec<&str> = rest.iter().map(|&c| table.get(c)).collect();
        b.item(location!(path, table), table.get(id), &joined, &values)?;
    }
    Ok(())
}

/// Adds the users' attributes.
pub fn users(mut table: Table, id: &str, attributes: &Attributes, b: &mut Builder<'_>) -> Result<()> {
    let path = table.path().to_path_buf();
    let id = table.find(id, "--user-id-col")?;
    let rest = others(&table, &[id], attributes, "--user-attribute-cols")?;
    b.user_attributes(&names(&table, &rest));
    while table.advance(&mut b.intake)? {
        let values: Vec<&str> = rest.iter().map(|&c| table.get(c)).collect();
        b.user(location!(path, table), table.get(id), &values)?;
    }
    Ok(())
}
