//! Import of raw files of a known layout into a data set folder. Each format is a module that implements [`Source`].
//!
//! ```text
//! Source (which file, which column) ─▶ Table (rows of text fields) ─▶ feed ─▶ Builder (policies, sort) ─▶ folder
//! ```

mod delimited;
pub mod feed;
pub mod generic;
mod jsonl;
mod lines;
pub mod morec;
pub mod ninerec;
mod parquet;
pub mod pickle;
pub mod pictures;
pub mod recbole;
pub mod rows;
pub mod scan;
pub mod table;

use super::build::{Builder, ProgressFn};
use super::dataset::Dataset;
use super::folder::{self, DatasetParts};
use super::notes::Notes;
use super::policy::Policy;
use crate::error::{Error, Result};
use crate::fsio::{Manifest, sha256_file};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use lines::for_each_line;
pub use scan::InputFiles;

/// Revision of the import. It is raised when the same files and settings give a different data set than before.
const REVISION: u32 = 1;

/// Raw file and its role.
#[derive(Debug, Clone)]
pub struct Input {
    /// Role of the file: `interactions`, `items` or `users`.
    pub role: &'static str,
    /// Path of the file.
    pub path: PathBuf,
}

impl Input {
    fn list(interactions: &Path, items: Option<&PathBuf>, users: Option<&PathBuf>) -> Vec<Self> {
        let one = |role, path: &Path| Self { role, path: path.into() };
        let mut all = vec![one("interactions", interactions)];
        all.extend(items.map(|p| one("items", p)));
        all.extend(users.map(|p| one("users", p)));
        all
    }
}

/// Source of a data set in raw files. [`import`] calls `items`, `interactions`, `users`, in this order.
pub trait Source {
    /// Raw files; the one with the interactions is the first.
    fn inputs(&self) -> Vec<Input>;
    /// Settings that determine the data set together with the files and the policy; without paths.
    fn config(&self) -> Value;
    /// Adds the catalogue to the builder, if the source has one.
    ///
    /// # Errors
    /// As the builder, or the file.
    fn items(&self, builder: &mut Builder<'_>) -> Result<()>;
    /// Adds the interactions or user histories to the builder.
    ///
    /// # Errors
    /// As the builder, or the file.
    fn interactions(&self, builder: &mut Builder<'_>) -> Result<()>;
    /// Adds the users' attributes to the builder, if the source has any.
    ///
    /// # Errors
    /// As the builder, or the file.
    fn users(&self, _builder: &mut Builder<'_>) -> Result<()> {
        Ok(())
    }
}

/// Image source of an import.
#[derive(Debug, Clone)]
pub struct Pictures {
    /// Path of a folder, a Parquet file or an LMDB.
    pub path: PathBuf,
    /// Name of the column of item ids (Parquet only).
    pub id_column: String,
    /// Name of the column of image bytes (Parquet only).
    pub column: String,
    /// Tolerated share of unusable images; a larger share is an error.
    pub tolerance: f64,
}

/// Outcome of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A new folder was written.
    Built,
    /// An older data set was replaced.
    Rebuilt,
    /// The existing folder was imported from the same files with the same settings; nothing was written.
    UpToDate,
}

/// Result of an import.
#[derive(Debug)]
pub struct Imported {
    /// Outcome: built, rebuilt or up to date.
    pub outcome: Outcome,
    /// Manifest of the data set folder.
    pub manifest: Manifest,
    /// Counted warnings; those of the original import if the folder was up to date.
    pub notes: Notes,
}

/// Reads a source into memory without writing a data set folder.
///
/// # Errors
/// Malformed input that the policy does not tolerate.
pub fn read(source: &dyn Source, policy: &Policy, on_progress: Box<ProgressFn<'_>>) -> Result<(Dataset, Notes)> {
    let mut builder = Builder::new(policy.clone(), on_progress);
    source.items(&mut builder)?;
    source.interactions(&mut builder)?;
    source.users(&mut builder)?;
    let inputs = source.inputs();
    builder.finish(inputs.first().map_or(Path::new(""), |i| &i.path))
}

/// Imports a source into the folder `out`, which is written atomically. If the same files were already imported there
/// with the same settings, nothing is done unless `force`.
///
/// # Errors
/// Malformed input that the policy does not tolerate; something other than a data set at `out`.
pub fn import(
    source: &dyn Source,
    pictures: Option<&Pictures>,
    policy: &Policy,
    out: &Path,
    force: bool,
    on_progress: Box<ProgressFn<'_>>,
) -> Result<Imported> {
    let existing = folder::existing(out)?;
    let mut inputs = BTreeMap::new();
    for input in source.inputs() {
        if !input.path.is_file() {
            return Err(Error::Usage(format!("{}: is not a file", input.path.display())));
        }
        let name = input.path.file_name().unwrap_or_default().to_string_lossy();
        inputs.insert(format!("{}/{name}", input.role), sha256_file(&input.path)?);
    }
    let mut config = json!({ "importer": REVISION, "source": source.config(), "policy": policy });
    if let Some(p) = pictures {
        config["images"] = json!({ "id_column": p.id_column, "column": p.column, "tolerance": p.tolerance });
        inputs.insert("images".into(), pictures::digest(&p.path)?);
    }
    if let Some(old) = existing.as_ref().filter(|m| !force && m.inputs == inputs && m.config == config)
        && folder::check_files(old, out, false).is_ok()
    {
        let notes = serde_json::from_value(old.facts["warnings"].clone()).unwrap_or_default();
        return Ok(Imported { outcome: Outcome::UpToDate, manifest: old.clone(), notes });
    }
    let (dataset, notes) = read(source, policy, on_progress)?;
    let facts = Map::from_iter([("warnings".to_string(), json!(notes))]);
    let opened = pictures.map(|p| pictures::open(&p.path, &p.id_column, &p.column)).transpose()?;
    let images = opened.as_deref().zip(pictures.map(|p| p.tolerance));
    let manifest = dataset.save(out, DatasetParts { images, inputs, config, facts })?;
    let notes = serde_json::from_value(manifest.facts["warnings"].clone()).unwrap_or(notes);
    let outcome = if existing.is_some() { Outcome::Rebuilt } else { Outcome::Built };
    Ok(Imported { outcome, manifest, notes })
}
