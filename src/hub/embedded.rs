//! The one encoder that comes inside the program: `title-mini`, distilled by ourselves, for a machine without a hub.

use super::folder::{ModelFolder, Origin};
use crate::error::Result;
use crate::fsio::{self, Staged};
use std::path::{Path, PathBuf};

/// Its name.
pub const NAME: &str = "title-mini";

const FILES: [(&str, &[u8]); 6] = [
    ("model.toml", include_bytes!("../../models/title-mini/model.toml")),
    ("config.json", include_bytes!("../../models/title-mini/config.json")),
    ("tokenizer.json", include_bytes!("../../models/title-mini/tokenizer.json")),
    ("tokenizer_config.json", include_bytes!("../../models/title-mini/tokenizer_config.json")),
    ("special_tokens_map.json", include_bytes!("../../models/title-mini/special_tokens_map.json")),
    ("model.safetensors", include_bytes!("../../models/title-mini/model.safetensors")),
];

fn digest() -> String {
    let all: Vec<String> = FILES.iter().map(|(n, b)| format!("{n}:{}", fsio::sha256_bytes(b))).collect();
    fsio::sha256_bytes(all.join("\n").as_bytes())
}

/// Where the files of this version go below a cache.
fn place(cache: &Path) -> PathBuf {
    cache.join(format!("morec--{NAME}")).join(&digest()[..16])
}

/// The model's folder, unpacked below `cache` if it is not there yet.
pub(super) fn unpacked(cache: &Path) -> Result<ModelFolder> {
    let dir = place(cache);
    let whole =
        |d: &Path| FILES.iter().all(|(n, b)| std::fs::metadata(d.join(n)).is_ok_and(|m| m.len() == b.len() as u64));
    if !whole(&dir) {
        let staged = Staged::new(&dir)?;
        for (name, bytes) in FILES {
            fsio::write_bytes(&staged.path().join(name), bytes)?;
        }
        staged.commit()?;
    }
    ModelFolder::open(NAME, &dir, Origin::Embedded)
}
