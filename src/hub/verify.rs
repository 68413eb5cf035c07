//! Verification of a model folder: reads every file and reports its defects.

use super::card::Card;
use super::content;
use super::folder::{CONFIG, INDEX, ModelFolder, Origin, TOKENIZER, WEIGHTS, shards};
use super::layout::named_digest;
use crate::error::{Error, Result};
use crate::fsio;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Element types that can be loaded; others (4- and 8-bit floats) must be converted first.
const DTYPES: &[&str] = &["F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U8", "U32", "BOOL"];

/// Result of [`inspect`].
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Path of the model folder.
    pub dir: PathBuf,
    /// Architecture: `model_type` of `config.json`.
    pub model_type: Option<String>,
    /// Number of tensors.
    pub tensors: usize,
    /// Total number of elements of all tensors.
    pub parameters: u64,
    /// Number of tensors by element type.
    pub dtypes: BTreeMap<String, usize>,
    /// Size and digest of each file.
    pub files: Vec<FileReport>,
    /// Defects; empty if the model can be used.
    pub problems: Vec<Problem>,
}

/// Size and digest of one file of a model folder.
#[derive(Debug, Clone, Serialize)]
pub struct FileReport {
    /// File name.
    pub name: String,
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
    /// Source of the expected digest: `card`, or `hub` (the name of the blob); `None` if there is none.
    pub checked: Option<&'static str>,
}

/// Defect of a model folder.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// Name of the defective file; `.` for the folder as a whole.
    pub file: String,
    /// Description of the defect.
    pub message: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.file != "." {
            write!(f, "{}: ", self.file)?;
        }
        f.write_str(&self.message)
    }
}

/// Verifies a model folder and its card.
///
/// # Errors
/// [`Error::Model`] listing all defects; [`Error::Io`].
pub fn verify(dir: &Path) -> Result<Report> {
    inspect(dir, None)?.into_result()
}

/// Verifies a model folder as [`verify`], but returns defects in the report. `card` is used if the folder has no card.
///
/// # Errors
/// [`Error::Model`] when the folder does not exist or its card is malformed; [`Error::Io`].
pub fn inspect(dir: &Path, card: Option<&Card>) -> Result<Report> {
    if !dir.is_dir() {
        return Err(Error::model(dir, "no such folder"));
    }
    let own = Card::read(dir)?;
    let mut report = Report::of(dir);
    report.read(dir, own.as_ref().or(card))?;
    Ok(report)
}

/// Defects of the weights, and notes on configuration and tokenizer. No digest is computed, and only the headers of the
/// weights are read.
///
/// # Errors
/// [`Error::Io`]; [`Error::Model`] for a malformed index.
pub(super) fn structure(folder: &ModelFolder) -> Result<(Vec<Problem>, Vec<String>)> {
    let mut report = Report::of(&folder.dir);
    report.weights(&folder.dir, folder)?;
    let weights = std::mem::take(&mut report.problems);
    let config = report.config(&folder.dir, None)?;
    report.tokenizer(&folder.dir, &config)?;
    Ok((weights, report.problems.iter().map(Problem::to_string).collect()))
}

impl Report {
    fn of(dir: &Path) -> Self {
        Self {
            dir: dir.into(),
            model_type: None,
            tensors: 0,
            parameters: 0,
            dtypes: BTreeMap::new(),
            files: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Returns the report if it has no defects.
    ///
    /// # Errors
    /// [`Error::Model`] listing all defects.
    pub fn into_result(self) -> Result<Self> {
        if self.problems.is_empty() {
            return Ok(self);
        }
        let all: Vec<String> = self.problems.iter().map(Problem::to_string).collect();
        Err(Error::model(&self.dir, all.join("; ")))
    }

    fn problem(&mut self, file: &str, message: impl Into<String>) {
        self.problems.push(Problem { file: file.into(), message: message.into() });
    }

    fn read(&mut self, dir: &Path, card: Option<&Card>) -> Result<()> {
        match ModelFolder::open("", dir, Origin::Folder) {
            Ok(folder) => {
                for name in folder.files() {
                    self.digest(dir, &name, card)?;
                }
                self.weights(dir, &folder)?;
            }
            Err(Error::Model { message, .. }) => self.problem(".", message),
            Err(e) => return Err(e),
        }
        let config = self.config(dir, card)?;
        self.tokenizer(dir, &config)?;
        for name in card.iter().flat_map(|c| c.sha256.keys()).filter(|n| !dir.join(n).is_file()) {
            self.problem(name, "missing, and the card lists it");
        }
        Ok(())
    }

    fn digest(&mut self, dir: &Path, name: &str, card: Option<&Card>) -> Result<()> {
        let path = dir.join(name);
        let bytes = std::fs::metadata(&path).map_err(Error::model_io(&path))?.len();
        let sha256 = fsio::sha256_file(&path)?;
        let blob = named_digest(&path);
        let mut checked = None;
        for (by, expected) in [("hub", blob.as_ref()), ("card", card.and_then(|c| c.sha256.get(name)))] {
            let Some(expected) = expected else { continue };
            checked = Some(by);
            if *expected != sha256 {
                let whose =
                    if by == "hub" { "its name in the cache says (pull again to repair it)" } else { "the card says" };
                self.problem(name, format!("damaged or another version: SHA-256 {sha256}, {whose} {expected}"));
            }
        }
        self.files.push(FileReport { name: name.into(), bytes, sha256, checked });
        Ok(())
    }

    fn config(&mut self, dir: &Path, card: Option<&Card>) -> Result<serde_json::Value> {
        let path = dir.join(CONFIG);
        if !path.is_file() {
            return Ok(serde_json::Value::Null);
        }
        let config = match content::json(&path)? {
            Ok(config) => config,
            Err(why) => {
                self.problem(CONFIG, why);
                return Ok(serde_json::Value::Null);
            }
        };
        self.model_type = config.get("model_type").and_then(|m| m.as_str()).map(String::from);
        match (&self.model_type, card) {
            (None, _) => self.problem(CONFIG, "has no `model_type`, so the architecture is unknown"),
            (Some(found), Some(card)) if *found != card.architecture => {
                self.problem(CONFIG, format!("model_type is `{found}`, the card says `{}`", card.architecture));
            }
            _ => {}
        }
        Ok(config)
    }

    fn tokenizer(&mut self, dir: &Path, config: &serde_json::Value) -> Result<()> {
        let path = dir.join(TOKENIZER);
        if !path.is_file() {
            return Ok(());
        }
        let bytes = std::fs::read(&path).map_err(Error::model_io(&path))?;
        // The `tokenizers` crate panics on some damaged files.
        let parsed = fsio::caught(|| tokenizers::Tokenizer::from_bytes(&bytes).map_err(|e| e.to_string()));
        match parsed.unwrap_or_else(|| Err("its reader panicked".into())) {
            Err(e) => self.problem(TOKENIZER, format!("does not parse: {e}")),
            Ok(tokenizer) => {
                let top = tokenizer.get_vocab(true).into_values().max().map_or(0, |id| u64::from(id) + 1);
                if let Some(rows) = config.get("vocab_size").and_then(|v| v.as_u64()).filter(|rows| *rows < top) {
                    self.problem(
                        TOKENIZER,
                        format!("has token ids up to {}, config.json embeds {rows} tokens", top - 1),
                    );
                }
            }
        }
        Ok(())
    }

    fn weights(&mut self, dir: &Path, folder: &ModelFolder) -> Result<()> {
        let mut seen: BTreeMap<String, String> = BTreeMap::new();
        for path in &folder.weights {
            let shard = path.file_name().and_then(|n| n.to_str()).unwrap_or(WEIGHTS).to_string();
            for name in self.header(path, &shard)? {
                if let Some(other) = seen.insert(name.clone(), shard.clone()) {
                    self.problem(&shard, format!("has the tensor `{name}`, and so has {other}"));
                }
            }
        }
        match &folder.index {
            Some(index) => self.index(dir, index, &seen),
            None => Ok(()),
        }
    }

    /// Reads the tensor names of one weight file; checks the header's length, each offset and the file's length.
    fn header(&mut self, path: &Path, shard: &str) -> Result<BTreeSet<String>> {
        let header = match content::tensors(path)? {
            Ok(header) => header,
            Err(why) => {
                self.problem(shard, why);
                return Ok(BTreeSet::new());
            }
        };
        let mut names = BTreeSet::new();
        for (name, info) in header.tensors().into_iter().collect::<BTreeMap<_, _>>() {
            let dtype = info.dtype.to_string();
            if !DTYPES.contains(&dtype.as_str()) {
                self.problem(shard, format!("the tensor `{name}` is {dtype}, which cannot be loaded"));
            }
            self.tensors += 1;
            self.parameters += info.shape.iter().map(|d| *d as u64).product::<u64>();
            *self.dtypes.entry(dtype).or_default() += 1;
            names.insert(name);
        }
        if names.is_empty() {
            self.problem(shard, "holds no tensors");
        }
        Ok(names)
    }

    /// Reports tensors that the index misplaces or omits, and shards that it does not name.
    fn index(&mut self, dir: &Path, index: &Path, seen: &BTreeMap<String, String>) -> Result<()> {
        let text = fsio::read_model_text(index)?;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let empty = serde_json::Map::new();
        let map = value.get("weight_map").and_then(|m| m.as_object()).unwrap_or(&empty);
        for (tensor, shard) in map {
            let shard = shard.as_str().unwrap_or_default();
            match seen.get(tensor) {
                Some(there) if there == shard => {}
                Some(there) => self.problem(INDEX, format!("puts `{tensor}` into {shard}, it is in {there}")),
                None => self.problem(INDEX, format!("puts `{tensor}` into {shard}, which does not have it")),
            }
        }
        for tensor in seen.keys().filter(|t| !map.contains_key(*t)) {
            self.problem(INDEX, format!("does not name the tensor `{tensor}`"));
        }
        let known: BTreeSet<String> = shards(index)?.into_iter().collect();
        for entry in std::fs::read_dir(dir).map_err(Error::io(dir))?.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.ends_with(".safetensors") && !known.contains(&name) {
                self.problem(&name, "is not named by the index");
            }
        }
        Ok(())
    }
}
