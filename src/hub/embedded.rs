//! The encoders that come inside the program: `title-mini` for texts and `cover-mini` for pictures, distilled by ourselves,
//! for a machine without a hub.

use super::folder::{ModelFolder, Origin};
use crate::error::Result;
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

/// The files of a model of that name, if it comes inside the program.
fn files(name: &str) -> Option<Files> {
    MODELS.iter().find(|(n, _)| *n == name).map(|(_, f)| *f)
}

/// Whether a model of that name comes inside the program.
pub fn has(name: &str) -> bool {
    files(name).is_some()
}

/// Where the files of this version go below a cache.
fn place(cache: &Path, name: &str, files: Files) -> PathBuf {
    let all: Vec<String> = files.iter().map(|(n, b)| format!("{n}:{}", fsio::sha256_bytes(b))).collect();
    cache.join(format!("morec--{name}")).join(&fsio::sha256_bytes(all.join("\n").as_bytes())[..16])
}

/// The model's folder, unpacked below `cache` if it is not there yet; nothing if it does not come inside the program.
pub(super) fn unpacked(cache: &Path, name: &str) -> Result<Option<ModelFolder>> {
    let Some(files) = files(name) else { return Ok(None) };
    let dir = place(cache, name, files);
    let whole =
        |d: &Path| files.iter().all(|(n, b)| std::fs::metadata(d.join(n)).is_ok_and(|m| m.len() == b.len() as u64));
    if !whole(&dir) {
        let staged = Staged::new(&dir)?;
        for (name, bytes) in files {
            fsio::write_bytes(&staged.path().join(name), bytes)?;
        }
        staged.commit()?;
    }
    ModelFolder::open(name, &dir, Origin::Embedded).map(Some)
}
