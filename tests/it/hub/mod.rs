//! Names to folders: cards, the cache, transfers from a hub on the loopback interface, verification, the commands.

mod cards;
mod command;
mod pull;
mod server;
mod verify;

use morec::hub::HubOptions;
use safetensors::tensor::{Dtype, TensorView};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Names and contents of a repository or a folder.
type Files = BTreeMap<String, Vec<u8>>;

const TOKENIZER: &str = r#"{"version":"1.0","truncation":null,"padding":null,"added_tokens":[],"normalizer":null,
"pre_tokenizer":{"type":"Whitespace"},"post_processor":null,"decoder":null,
"model":{"type":"WordLevel","vocab":{"[UNK]":0,"film":1,"game":2},"unk_token":"[UNK]"}}"#;

/// A safetensors file with one F32 tensor a name, 64 elements each.
fn weights(names: &[&str]) -> Vec<u8> {
    let data: Vec<u8> = (0..64u32).flat_map(|i| (i as f32).to_le_bytes()).collect();
    let view = || TensorView::new(Dtype::F32, vec![8, 8], &data).unwrap();
    safetensors::serialize(names.iter().map(|n| (*n, view())), None).unwrap()
}

fn tiny() -> Files {
    let mut files = Files::new();
    files.insert("config.json".into(), br#"{"model_type":"bert","vocab_size":3}"#.to_vec());
    files.insert("tokenizer.json".into(), TOKENIZER.into());
    files.insert("model.safetensors".into(), weights(&["a", "b"]));
    files.insert("README.md".into(), b"not needed".to_vec());
    files
}

fn sharded() -> Files {
    let mut files = tiny();
    files.remove("model.safetensors");
    let index =
        r#"{"metadata":{"total_size":512},"weight_map":{"a":"m-1-of-2.safetensors","b":"m-2-of-2.safetensors"}}"#;
    files.insert("model.safetensors.index.json".into(), index.into());
    files.insert("m-1-of-2.safetensors".into(), weights(&["a"]));
    files.insert("m-2-of-2.safetensors".into(), weights(&["b"]));
    files
}

fn write(dir: &Path, files: &Files) {
    std::fs::create_dir_all(dir).unwrap();
    for (name, content) in files {
        std::fs::write(dir.join(name), content).unwrap();
    }
}

/// Quick options whose folders lie under `root`.
fn options(root: &Path) -> HubOptions {
    let mut options = HubOptions::new(root.join("models"), root.join("cache"));
    options.timeout = Duration::from_secs(2);
    options.retries = 0;
    options
}

/// Every file below `dir`, hidden ones too; lock files left out.
fn tree(dir: &Path) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() && !path.is_symlink() {
            all.extend(tree(&path));
        } else if path.extension().is_none_or(|e| e != "lock") {
            all.push(path);
        }
    }
    all
}
