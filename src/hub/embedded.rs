//! Encoders embedded in the program for machines without access to a hub: `title-mini` for texts and `cover-mini` for
//! images, both distilled by this project.

use super::folder::{ModelFolder, Origin};
use super::private_temp::private_folders;
use crate::error::{Error, Result};
use crate::fsio::{self, Staged};
use std::path::{Path, PathBuf};

type Files = &'static [(&'static str, &'static [u8])];

macro_rules! files {
    ($model:literal: $($file:literal),+) => {
        &[$(($file, include_bytes!(concat!("../../models/", $model, "/", $file)))),+]
    };
}

const MODELS: [(&str, Files); 2] = [
    (
        "title-mini",
        files!("title-mini": "model.toml", "config.json", "tokenizer.json", "tokenizer_config.json",
            "special_tokens_map.json", "model.safetensors"),
    ),
    ("cover-mini", files!("cover-mini": "model.toml", "config.json", "preprocessor_config.json", "model.safetensors")),
];

/// Files of the embedded model `name`; `None` if there is none.
fn files(name: &str) -> Option<Files> {
    MODELS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// Whether the program embeds a model named `name`.
pub fn has(name: &str) -> bool {
    files(name).is_some()
}

/// Folder below `cache` for this version of the files; its name contains a digest of them.
fn unpacked_path(cache: &Path, name: &str, files: Files) -> PathBuf {
    let all: Vec<String> = files.iter().map(|(n, b)| format!("{n}:{}", fsio::sha256_bytes(b))).collect();
    cache.join(format!("morec--{name}")).join(&fsio::sha256_bytes(all.join("\n").as_bytes())[..16])
}

/// Folder of the embedded model `name`; `None` if there is none. The model is unpacked below `cache` unless it exists
/// there. If `cache` cannot be written, as in containers with a missing or read-only home, a private temporary folder
/// is used.
///
/// # Errors
/// The I/O error on `cache`, with the remedy, when no temporary folder can be written either.
pub(super) fn unpacked(cache: &Path, name: &str) -> Result<Option<ModelFolder>> {
    let Some(files) = files(name) else { return Ok(None) };
    let dir = match unpack(cache, name, files) {
        Err(Error::Io { path, source }) => {
            let other = private_folders().iter().find_map(|t| unpack(t, name, files).ok());
            other.ok_or_else(|| {
                let m =
                    format!("{source}; no temporary folder can be written either: set HF_HOME to a folder that can");
                Error::io(path)(std::io::Error::new(source.kind(), m))
            })?
        }
        dir => dir?,
    };
    ModelFolder::open(name, &dir, Origin::Embedded).map(Some)
}

/// Unpacks the files below `below` unless they exist there with equal content; returns the folder.
fn unpack(below: &Path, name: &str, files: Files) -> Result<PathBuf> {
    let dir = unpacked_path(below, name, files);
    let whole = files.iter().all(|(n, bytes)| std::fs::read(dir.join(n)).is_ok_and(|found| found == *bytes));
    if !whole {
        let staged = Staged::new(&dir)?;
        for (name, bytes) in files {
            fsio::write_bytes(&staged.path().join(name), bytes)?;
        }
        staged.commit()?;
    }
    Ok(dir)
}
