//! The data set folder: `items.parquet` (`item_id`, `text`, attributes), `users.parquet` (`user_id`, attributes),
//! `interactions.parquet` (`user`, `item` u32, `timestamp` i64 or null, in order of user and time), `manifest.json`.
//! `images.parquet` (`item` u32, `image` bytes) where there are pictures.
//! The row number of an item or user is its dense index.

use super::columns::{self, Column, damaged};
use super::dataset::{Csr, Dataset, Items};
use super::images::{self, IMAGES, ImageFile, ImageSource};
use crate::error::{DataError, Error, Result};
use crate::fsio::{MANIFEST, Manifest, Staged};
use arrow::array::{Array, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Field, Int64Type, UInt32Type};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

/// Kind of a data set's manifest.
pub const KIND: &str = "dataset";
/// Version of the folder's layout.
pub const FORMAT: u32 = 1;

const ITEMS: &str = "items.parquet";
const USERS: &str = "users.parquet";
const EVENTS: &str = "interactions.parquet";
/// File tracked beside the data in the repository; an import does not change it.
const CARD: &str = "dataset.toml";
const REMAKE: &str = "import the data set with `morec data import`";

/// Content of a data set folder besides its tables: images, and the manifest's entries besides the counts.
#[derive(Default)]
pub struct DatasetParts<'a> {
    /// Source of the images, and the tolerated share of unusable ones.
    pub images: Option<(&'a dyn ImageSource, f64)>,
    /// SHA-256 of each raw file, by role and file name.
    pub inputs: BTreeMap<String, String>,
    /// Settings of the import.
    pub config: Value,
    /// Further facts for the manifest, merged with the counts.
    pub facts: serde_json::Map<String, Value>,
}

impl Dataset {
    /// Opens a data set folder and checks it: sizes and digests against the manifest, row counts, index ranges, order
    /// in time. Digests are checked first, so that any damage gives the same error; they take about 1 s per 2 GB.
    ///
    /// # Errors
    /// A data error that names the damaged file and recommends a new import.
    pub fn open(dir: &Path) -> Result<Self> {
        let manifest = read_manifest(dir)?;
        check_files(&manifest, dir, true)?;
        let (mut ids, mut text, mut attributes) = (Vec::new(), Vec::new(), Vec::new());
        read_strings(&dir.join(ITEMS), &mut [("item_id", &mut ids), ("text", &mut text)], &mut attributes)?;
        let items = Items { ids, text, attributes: attributes.into_iter().collect() };
        let (mut users, mut user_attributes) = (Vec::new(), Vec::new());
        read_strings(&dir.join(USERS), &mut [("user_id", &mut users)], &mut user_attributes)?;
        let (seqs, times) = read_events(&dir.join(EVENTS), users.len(), items.ids.len())?;
        for (fact, file, found) in [
            ("items", ITEMS, items.ids.len()),
            ("users", USERS, users.len()),
            ("interactions", EVENTS, seqs.values.len()),
        ] {
            if manifest.facts[fact].as_u64() != Some(found as u64) {
                let m = format!("{found} rows, the manifest says {}", manifest.facts[fact]);
                return Err(damaged(&dir.join(file), m));
            }
        }
        let images = match manifest.files.get(IMAGES) {
            Some(f) => Some(ImageFile::open(&dir.join(IMAGES), &f.sha256, items.ids.len())?),
            None => None,
        };
        Ok(Self {
            images,
            name: folder_name(dir),
            items,
            users,
            user_attributes: user_attributes.into_iter().collect(),
            seqs,
            times,
            digest: manifest.digest(),
            dir: Some(dir.into()),
        })
    }

    /// Writes the folder atomically. An older data set at `dir` is replaced; files in it that are not part of the data
    /// set (its card, notes) are preserved. Returns the manifest.
    ///
    /// # Errors
    /// When `dir` holds something other than a data set; I/O errors.
    pub fn save(&self, dir: &Path, parts: DatasetParts) -> Result<Manifest> {
        let mut items = vec![Column::text("item_id", &self.items.ids), Column::text("text", &self.items.text)];
        items.extend(self.items.attributes.iter().map(|(n, v)| Column::optional_text(n, v)));
        let mut users = vec![Column::text("user_id", &self.users)];
        users.extend(self.user_attributes.iter().map(|(n, v)| Column::optional_text(n, v)));
        let events = self.event_columns();
        let tables = Tables {
            items: (self.items.ids.len(), &items),
            users: (self.users.len(), &users),
            events: (self.seqs.values.len(), &events),
            timed: self.times.is_some(),
            ids: &self.items.ids,
        };
        write_folder(dir, parts, tables)
    }

    fn event_columns(&self) -> [Column<'_>; 3] {
        let user_of = move |row: usize| (self.seqs.offsets.partition_point(|&o| o <= row) - 1) as u32;
        [
            Column::new(Field::new("user", DataType::UInt32, false), move |r| {
                let mut user = user_of(r.start);
                Arc::new(UInt32Array::from_iter_values(r.map(|row| {
                    while self.seqs.offsets[user as usize + 1] <= row {
                        user += 1;
                    }
                    user
                })))
            }),
            Column::new(Field::new("item", DataType::UInt32, false), |r| {
                Arc::new(UInt32Array::from_iter_values(self.seqs.values[r].iter().copied()))
            }),
            Column::new(Field::new("timestamp", DataType::Int64, true), |r| {
                Arc::new(match &self.times {
                    Some(times) => Int64Array::from_iter_values(times[r].iter().copied()),
                    None => Int64Array::new_null(r.len()),
                })
            }),
        ]
    }
}

/// The tables of a data set, each with its number of rows; columns as [`Dataset::open`] reads them.
pub struct Tables<'a> {
    /// `item_id`, `text`, attributes.
    pub items: (usize, &'a [Column<'a>]),
    /// `user_id`, attributes.
    pub users: (usize, &'a [Column<'a>]),
    /// `user`, `item`, `timestamp`, ascending by user, then time.
    pub events: (usize, &'a [Column<'a>]),
    /// Whether the interactions have timestamps.
    pub timed: bool,
    /// Raw item ids, for finding the images; not needed without images.
    pub ids: &'a [String],
}

/// Writes a data set folder from its tables; see [`Dataset::save`].
pub fn write_folder(dir: &Path, parts: DatasetParts, tables: Tables) -> Result<Manifest> {
    // A symbolic link's target is replaced, not the link.
    let dir = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    let old = existing(&dir)?;
    let staged = Staged::new(&dir)?;
    let at = staged.path();
    if dir.exists() {
        carry_over(&dir, at, old.as_ref())?;
    }
    for (name, (rows, columns)) in [(ITEMS, tables.items), (USERS, tables.users), (EVENTS, tables.events)] {
        columns::write(&at.join(name), rows, columns)?;
    }
    let mut files = vec![ITEMS, USERS, EVENTS];
    let mut facts = parts.facts;
    if let Some((source, tolerance)) = parts.images {
        let taken = images::write(&at.join(IMAGES), source, tables.ids, tolerance)?;
        facts.insert("images".into(), taken.kept.into());
        let mut all: super::Notes =
            facts.get("warnings").and_then(|w| serde_json::from_value(w.clone()).ok()).unwrap_or_default();
        all.0.extend(taken.notes.0);
        facts.insert("warnings".into(), json!(all));
        files.push(IMAGES);
    }
    let mut manifest = Manifest::new(KIND, FORMAT);
    manifest.inputs = parts.inputs;
    manifest.config = parts.config;
    let mut counts = json!({
        "users": tables.users.0,
        "items": tables.items.0,
        "interactions": tables.events.0,
        "timestamps": tables.timed,
    });
    if let Value::Object(map) = &mut counts {
        map.extend(facts);
    }
    manifest.facts = counts;
    let manifest = manifest.seal(at, &files)?;
    staged.commit()?;
    Ok(manifest)
}

/// Name of the folder, also for paths such as `.`.
fn folder_name(dir: &Path) -> String {
    let full = fs::canonicalize(dir).unwrap_or_else(|_| dir.to_path_buf());
    full.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Reads the manifest of a data set folder.
///
/// # Errors
/// A data error when the folder is missing, is not a data set, or is damaged.
pub fn read_manifest(dir: &Path) -> Result<Manifest> {
    if !dir.is_dir() {
        return Err(DataError::new(dir, "no such folder").remedy(REMAKE).into());
    }
    Manifest::read(dir, KIND, FORMAT, REMAKE).map_err(as_data)
}

/// Compares the files with the manifest: sizes, and digests when `deep`.
///
/// # Errors
/// A data error naming the first file that differs.
pub fn check_files(manifest: &Manifest, dir: &Path, deep: bool) -> Result<()> {
    for name in [ITEMS, USERS, EVENTS] {
        if !manifest.files.contains_key(name) {
            return Err(damaged(&dir.join(MANIFEST), format!("does not list {name}")));
        }
        if !dir.join(name).is_file() {
            return Err(damaged(&dir.join(name), "missing"));
        }
    }
    manifest.verify(dir, deep).map_err(as_data)
}

/// Converts an error to a data error (exit code 3) with the same message.
fn as_data(e: Error) -> Error {
    match e {
        Error::Model { path, message } if message.starts_with("damaged") && !message.contains(REMAKE) => {
            DataError::new(path, message).remedy("import the data set again (`morec data import … --force`)").into()
        }
        Error::Model { path, message } => DataError::new(path, message).into(),
        e => e,
    }
}

/// Opens the manifest of the data set at `dir`, if there is one that an import may replace.
///
/// # Errors
/// When `dir` is something else: a file, a folder of another stage, a folder with content of unknown origin.
pub fn existing(dir: &Path) -> Result<Option<Manifest>> {
    let refuse = |what: &str| {
        Err(Error::Usage(format!(
            "{}: {what}, so it is not overwritten; choose another --out or move it away",
            dir.display()
        )))
    };
    if !dir.exists() {
        return Ok(None);
    }
    if !dir.is_dir() {
        return refuse("is a file");
    }
    if dir.join(MANIFEST).exists() {
        return match Manifest::read(dir, KIND, FORMAT, REMAKE) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Error::Io { path, source }) => Err(Error::Io { path, source }),
            Err(e) => refuse(&format!("is not a readable data set folder ({e})")),
        };
    }
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        if entry.map_err(Error::io(dir))?.file_name() != CARD {
            return refuse("is a folder with other content and no manifest.json of a data set");
        }
    }
    Ok(None)
}

/// Hard-links (or copies) files that are not part of the data set into the new folder.
fn carry_over(from: &Path, to: &Path, old: Option<&Manifest>) -> Result<()> {
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let name = entry.map_err(Error::io(from))?.file_name();
        let ours = old.is_some_and(|m| name.to_str().is_some_and(|n| m.files.contains_key(n)));
        if name != MANIFEST && !ours {
            link_tree(&from.join(&name), &to.join(&name))?;
        }
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> Result<()> {
    if from.is_dir() {
        fs::create_dir(to).map_err(Error::io(to))?;
        for entry in fs::read_dir(from).map_err(Error::io(from))? {
            let name = entry.map_err(Error::io(from))?.file_name();
            link_tree(&from.join(&name), &to.join(&name))?;
        }
        return Ok(());
    }
    fs::hard_link(from, to).or_else(|_| fs::copy(from, to).map(|_| ())).map_err(Error::io(from))
}

/// Reads a table of text columns: the columns `fixed` by name, further columns as attributes into `rest`.
fn read_strings(
    path: &Path,
    fixed: &mut [(&str, &mut Vec<String>)],
    rest: &mut Vec<(String, Vec<String>)>,
) -> Result<()> {
    columns::read(path, |batch| {
        let schema = batch.schema();
        for (c, (name, out)) in fixed.iter_mut().enumerate() {
            if schema.fields().get(c).map(|f| f.name().as_str()) != Some(*name) {
                return Err(damaged(path, format!("column {c} is not `{name}`")));
            }
            columns::push_text(path, batch, c, out)?;
        }
        for (k, field) in schema.fields().iter().skip(fixed.len()).enumerate() {
            if rest.len() <= k {
                rest.push((field.name().clone(), Vec::new()));
            }
            columns::push_text(path, batch, fixed.len() + k, &mut rest[k].1)?;
        }
        Ok(())
    })
}

/// Reads the interactions: rows must be ascending by user, in range, ascending in time within a user.
fn read_events(path: &Path, users: usize, items: usize) -> Result<(Csr, Option<Vec<i64>>)> {
    let mut seqs = Csr { offsets: Vec::with_capacity(users + 1), values: Vec::new() };
    let mut times: Vec<i64> = Vec::new();
    columns::read(path, |batch| {
        let wrong = || damaged(path, "its columns are not user u32, item u32, timestamp i64");
        let [u, i, t] = batch.columns() else { return Err(wrong()) };
        let (u, i, t) = (
            u.as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?,
            i.as_primitive_opt::<UInt32Type>().ok_or_else(wrong)?,
            t.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?,
        );
        let timed = t.null_count() == 0;
        if !timed && t.null_count() < t.len() || timed != (times.len() == seqs.values.len()) && !seqs.values.is_empty()
        {
            return Err(damaged(path, "some timestamps are missing and some are not"));
        }
        for k in 0..batch.num_rows() {
            let row = seqs.values.len();
            let (user, item) = (u.value(k) as usize, i.value(k));
            if user >= users || item as usize >= items {
                let m = format!("row {row}: user {user} or item {item} is out of range ({users} users, {items} items)");
                return Err(damaged(path, m));
            }
            if user + 1 < seqs.offsets.len() {
                return Err(damaged(path, format!("row {row}: users are not in order")));
            }
            let first = user + 1 > seqs.offsets.len();
            while seqs.offsets.len() <= user {
                seqs.offsets.push(row);
            }
            if timed {
                let time = t.value(k);
                if !first && times.last().is_some_and(|&before| before > time) {
                    return Err(damaged(path, format!("row {row}: timestamps are not in order")));
                }
                times.push(time);
            }
            seqs.values.push(item);
        }
        Ok(())
    })?;
    seqs.offsets.resize(users + 1, seqs.values.len());
    let timed = times.len() == seqs.values.len() && !times.is_empty();
    Ok((seqs, timed.then_some(times)))
}
