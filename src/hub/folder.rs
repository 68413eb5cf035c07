//! A folder of model files, looked at but not yet read.

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
/// Small files worth having beside the weights when they exist.
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
/// How to turn pickled weights into something that can be read without running code.
pub(super) const CONVERT: &str = "only pickled weights (pytorch_model.bin) are there, which run code when loaded and are \
    not read here; convert them once in Python: `from transformers import AutoModel; \
    AutoModel.from_pretrained(NAME).save_pretrained(DIR, safe_serialization=True)` and the same for AutoTokenizer, then use DIR";
/// How to get a `tokenizer.json` out of a vocabulary.
pub(super) const TO_FAST: &str = "make tokenizer.json once in Python: `from transformers import AutoTokenizer; \
    AutoTokenizer.from_pretrained(NAME, use_fast=True).save_pretrained(DIR)`";

/// Where a model folder was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "lowercase")]
pub enum Origin {
    /// A folder given by its path.
    Folder,
    /// `models/<name>/` of the project.
    Project,
    /// Unpacked from the program itself.
    Embedded,
    /// The Hugging Face cache, without a request.
    Cache {
        /// Repository id.
        id: String,
        /// The commit of the snapshot.
        commit: String,
    },
    /// The hub was asked, and what was missing was fetched.
    Hub {
        /// Repository id.
        id: String,
        /// The commit of the snapshot.
        commit: String,
    },
}

/// The files of one model, all of which exist.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// The name it was asked for by.
    pub name: String,
    /// The folder.
    pub dir: PathBuf,
    /// `config.json`.
    pub config: PathBuf,
    /// `model.safetensors`, or the shards in name order.
    pub weights: Vec<PathBuf>,
    /// `model.safetensors.index.json`, where the weights are sharded.
    pub index: Option<PathBuf>,
    /// `preprocessor_config.json`, where there is one.
    pub preprocessor: Option<PathBuf>,
    /// The card, where there is one.
    pub card: Option<Card>,
    /// Where it was found.
    pub origin: Origin,
}

impl ModelFolder {
    /// Lists the files of `dir` and checks that none is missing; their content is left to [`verify`](super::verify()).
    ///
    /// # Errors
    /// [`Error::Model`] when `config.json` or the weights (or a shard) are missing or the shard index or a card beside them is malformed.
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

    /// `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Model`] when there is none, with what to do when only a vocabulary is there.
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

    /// `config.json`, parsed.
    ///
    /// # Errors
    /// [`Error::Model`] when it cannot be read as JSON; [`Error::Io`].
    pub fn config(&self) -> Result<serde_json::Value> {
        serde_json::from_str(&fsio::read_model_text(&self.config)?)
            .map_err(|e| Error::model(&self.config, format!("not JSON: {e}")))
    }

    /// Names of the files of the model itself (no card, no licence), in name order.
    pub fn files(&self) -> Vec<String> {
        let mut names: BTreeSet<String> = EXTRAS.iter().map(ToString::to_string).collect();
        names.insert(CONFIG.into());
        names.extend(self.index.iter().chain(&self.weights).filter_map(|p| Some(p.file_name()?.to_str()?.to_string())));
        names.into_iter().filter(|n| self.dir.join(n).is_file()).collect()
    }

    /// Size of those files in bytes.
    pub fn bytes(&self) -> u64 {
        let sizes = self.files().into_iter().filter_map(|n| std::fs::metadata(self.dir.join(n)).ok());
        sizes.map(|m| m.len()).sum()
    }

    /// One SHA-256 over the names and digests of [`files`](Self::files): what a run records as its base.
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

/// Names of required files that `dir` lacks.
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

/// True when a folder has anything that makes it a model's, whole or not.
pub(super) fn looks_like_model(dir: &Path) -> bool {
    [CONFIG, WEIGHTS, INDEX, "pytorch_model.bin"].iter().any(|n| dir.join(n).is_file())
}

/// Names of the folders of `models/` that have files of a model, whole or not, sorted.
pub fn model_folders(models: &Path) -> Vec<String> {
    let mut names = subfolders(models);
    names.retain(|n| looks_like_model(&models.join(n)));
    names
}

/// The shards that an index file names, in name order.
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
