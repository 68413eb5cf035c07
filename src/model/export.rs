//! An encoder out of a recommender as a Hugging Face folder, its adapter beside it, for Python.

use super::ModelFolder;
use super::layout::{Kind, Layout};
use crate::error::{Error, Result};
use crate::fsio::{self, Staged};
use crate::nn::weights;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What was written.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// The Hugging Face folder.
    pub encoder: PathBuf,
    /// The adapter's folder in PEFT's or AdapterHub's layout, if there is one.
    pub adapter: Option<PathBuf>,
}

/// Writes the encoder of `place` (`text` or `image`) to `dir` under its Hugging Face names, as the base has it, and what PEFT or
/// AdapterHub can read of an adapter to `dir/adapter`.
pub fn export(model: &ModelFolder, place: &str, dir: &Path) -> Result<Exported> {
    let missing = || Error::Usage(format!("--encoder {place}: this model has no such encoder (text, image)"));
    let files: Vec<(&str, &str)> = match place {
        "text" => {
            let t = model.text.as_ref().ok_or_else(missing)?;
            vec![("config.json", &t.config_json), ("tokenizer.json", &t.tokenizer_json)]
        }
        "image" => {
            let i = model.image.as_ref().ok_or_else(missing)?;
            vec![("config.json", &i.config_json), ("preprocessor_config.json", &i.preprocess_json)]
        }
        _ => return Err(missing()),
    };
    let prefix = format!("item_encoder.{place}.model.");
    let added: Vec<String> = model.blueprint().declare()?.into_iter().filter(|s| s.added).map(|s| s.name).collect();
    if let Some(own) = model.own.iter().find(|n| n.starts_with(&prefix) && !added.contains(n)) {
        let m = format!("also trained `{own}` of the encoder itself; merge it first: `morec adapters merge`");
        return Err(Error::model(&model.dir, m));
    }
    let names: Vec<&str> =
        model.weights.names().filter(|n| n.starts_with(&prefix) && !added.iter().any(|a| a == n)).collect();
    let staged = Staged::new(dir)?;
    for (name, text) in &files {
        fsio::write_bytes(&staged.path().join(name), text.as_bytes())?;
    }
    let entries: Vec<_> = names
        .iter()
        .map(|n| (n[prefix.len()..].to_string(), model.weights.shape(n).unwrap_or_default().to_vec()))
        .collect();
    let meta = [("format".to_string(), "pt".to_string())].into();
    let read = |i: usize| Ok(model.weights.read(names[i])?.into());
    weights::save_each(&staged.path().join("model.safetensors"), &entries, meta, read)?;
    let kind = Kind::parse(files[0].1);
    let layout = kind.and_then(|k| Layout::of(model.config.adapter.method, &k));
    let from = model.dir.join(place);
    let adapter = match layout.filter(|l| from.join(l.file()).exists()) {
        None => None,
        Some(layout) => {
            let to = staged.path().join("adapter");
            std::fs::create_dir(&to).map_err(Error::io(&to))?;
            for name in ["adapter_config.json", layout.file()] {
                std::fs::copy(from.join(name), to.join(name)).map_err(Error::io(from.join(name)))?;
            }
            Some(dir.join("adapter"))
        }
    };
    staged.commit()?;
    Ok(Exported { encoder: dir.into(), adapter })
}
