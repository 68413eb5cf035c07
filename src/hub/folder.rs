//! Model folders: their file names, and a check that the required files exist. Weights are not read here.

use super::card::{Card, subfolders};
use super::name::is_shard_name;
use crate::error::{Error, Result};
use crate::fsio;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

pub(super) const CONFIG: &str = "config.json";
pub(super) const WEIGHTS: &str = "model.safetensors";
pub(super) const INDEX: &str = "model.safetensors.index.json";
pub(super) const TOKENIZER: &str = "tokenizer.json";
pub(super) const PREPROCESSOR: &str = "preprocessor_config.json";
/// Optional small files that are downloaded with the weights when the repository has them.
pub(super) const EXTRAS: &[&str] = &[
    PREPROCESSOR,
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "generation_config.json",
    "sentence_bert_config.json",
];
/// Error message for models with pickled weights only: how to convert them to safetensors.
pub(super) const CONVERT: &str = "only pickled weights (pytorch_model.bin) are there, which run code when loaded and are \
    not read here; convert them once in Python: `from transformers import AutoModel; \
    AutoModel.from_pretrained(NAME).save_pretrained(DIR, safe_serialization=True)` and the same for AutoTokenizer, then use DIR";
/// Part of an error message: how to convert a vocabulary to `tokenizer.json`.
pub(super) const TO_FAST: &str = "make tokenizer.json once in Python: `from transformers import AutoTokenizer; \
    AutoTokenizer.from_pretrained(NAME, use_fast=True).save_pretrained(DIR)`";

/// Origin of a model folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// Folder given by its path.
    Folder,
    /// Folder `models/<name>/` of the project.
    Project,
    /// Embedded in the program and unpacked.
    Embedded,
    /// Snapshot in the Hugging Face cache, found without a network request.
    Cache {
        /// Repository id.
        id: String,
        /// Commit id of the snapshot.
        commit: String,
    },
    /// Snapshot of a hub repository; missing files were downloaded.
    Hub {
        /// Repository id.
        id: String,
        /// Commit id of the snapshot.
        commit: String,
    },
}

/// Paths of the files of one model, all of which existed when the folder was opened.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Model name or path that was requested.
    pub name: String,
    /// Path of the folder.
    pub dir: PathBuf,
    /// Path of `config.json`.
    pub config: PathBuf,
    /// Paths of `model.safetensors`, or of the shards in name order.
    pub weights: Vec<PathBuf>,
    /// Path of `model.safetensors.index.json` if the weights are sharded.
    pub index: Option<PathBuf>,
    /// Path of `preprocessor_config.json` if it exists.
    pub preprocessor: Option<PathBuf>,
    /// Model card if there is one.
    pub card: Option<Card>,
    /// Origin of the folder.
    pub origin: Origin,
}

impl ModelFolder {
    /// Lists the files of `dir` and checks that none is missing. [`verify`](super::verify()) checks their content.
    ///
    /// # Errors
    /// [`Error::Model`] when `config.json`, the weights or a shard is missing, or the shard index or the card is
    /// malformed.
    pub fn open(name: &str, dir: &Path, origin: Origin) -> Result<Self> {
        if !dir.is_dir() {
            return Err(Error::model(dir, "no such folder"));
        }
        let missing = missing(dir)?;
        if !missing.is_empty() {
            let pickled = dir.join("pytorch_model.bin").exists() && !missing.contains(&CONFIG.to_string());
            let why = if pickled { CONVERT.into() } else { format!("missing {}", missing.join(", ")) };
            return Err(Error::model(dir, why));
        }
        let here = |name: &str| Some(dir.join(name)).filter(|p| p.is_file());
        let (weights, index) = match here(WEIGHTS) {
            Some(single) => (vec![single], None),
            None => (shards(&dir.join(INDEX))?.iter().map(|s| dir.join(s)).collect(), here(INDEX)),
        };
        Ok(Self {
            name: name.into(),
            dir: dir.into(),
            config: dir.join(CONFIG),
            weights,
            index,
            preprocessor: here(PREPROCESSOR),
            card: Card::read(dir)?,
            origin,
        })
    }

    /// Path of `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Model`] when the file does not exist; with a remedy when the folder has only a vocabulary.
    pub fn tokenizer(&self) -> Result<PathBuf> {
        let path = self.dir.join(TOKENIZER);
        if path.is_file() {
            return Ok(path);
        }
        let vocabulary = ["vocab.txt", "vocab.json"].into_iter().find(|v| self.dir.join(v).is_file());
        Err(Error::model(
            &self.dir,
            match vocabulary {
                Some(v) => format!("has {v} but no {TOKENIZER}; {TO_FAST}"),
                None => format!("has no {TOKENIZER}, so it cannot read texts"),
            },
        ))
    }

    /// Reads and parses `config.json`.
    ///
    /// # Errors
    /// [`Error::Model`] when the file is not valid JSON; [`Error::Io`].
    pub fn config(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&fsio::read_model_text(&self.config)?)
            .map_err(|e| Error::model(&self.config, format!("not JSON: {e}")))
    }

    /// Names of the model's files in name order, without card and licence.
    pub fn files(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = EXTRAS.iter().map(ToString::to_string).collect();
        names.insert(CONFIG.into());
        names.extend(self.index.iter().chain(&self.weights).filter_map(|p| Some(p.file_name()?.to_str()?.to_string())));
        names.into_iter().filter(|n| self.dir.join(n).is_file()).collect()
    }

    /// Total size in bytes of the files listed by [`files`](Self::files).
    pub fn bytes(&self) -> u64 {
        let sizes = self.files().into_iter().filter_map(|n| std::fs::metadata(self.dir.join(n)).ok());
        sizes.map(|m| m.len()).sum()
    }

    /// SHA-256 over the names and digests of the files listed by [`files`](Self::files). A run records it as the digest
    /// of its base model.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn digest(&self) -> Result<String> {
        let mut all = String::new();
        for name in self.files() {
            all += &format!("{name}:{}\n", fsio::sha256_file(&self.dir.join(&name))?);
        }
        Ok(fsio::sha256_bytes(all.as_bytes()))
    }
}

/// Names of required model files that `dir` lacks; an index without some shards lists those shards.
pub(super) fn missing(dir: &Path) -> Result<Vec<String>> {
    let mut missing = Vec::new();
    if !dir.join(CONFIG).is_file() {
        missing.push(CONFIG.into());
    }
    if !dir.join(WEIGHTS).is_file() {
        let index = dir.join(INDEX);
        if index.is_file() {
            missing.extend(shards(&index)?.into_iter().filter(|s| !dir.join(s).is_file()));
        } else {
            missing.push(format!("{WEIGHTS} (or {INDEX} with its shards)"));
        }
    }
    Ok(missing)
}

/// Whether a folder contains at least one required file of a model.
pub(super) fn looks_like_model(dir: &Path) -> bool {
    [CONFIG, WEIGHTS, INDEX, "pytorch_model.bin"].iter().any(|n| dir.join(n).is_file())
}

/// Sorted names of the folders in `models` that contain at least one required file of a model.
pub fn model_folders(models: &Path) -> Vec<String> {
    let mut names = subfolders(models);
    names.retain(|n| looks_like_model(&models.join(n)));
    names
}

/// Reads the shard names in an index file, in name order.
pub(super) fn shards(index: &Path) -> Result<Vec<String>> {
    let wrong = |message: String| Error::model(index, message);
    let text = fsio::read_model_text(index)?;
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|e| wrong(format!("not JSON: {e}")))?;
    let map = value.get("weight_map").and_then(|m| m.as_object()).filter(|m| !m.is_empty());
    let map = map.ok_or_else(|| wrong("has no `weight_map`, so it names no shards".into()))?;
    let mut names = BTreeSet::new();
    for shard in map.values() {
        match shard.as_str().filter(|s| is_shard_name(s)) {
            Some(s) => names.insert(s.to_string()),
            None => {
                return Err(wrong(format!("names the shard {shard}, which is not a plain *.safetensors file name")));
            }
        };
    }
    Ok(names.into_iter().collect())
}
