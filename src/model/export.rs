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

/// Writes the encoder of `place` (`text` or `image`) to `dir` under its Hugging Face names, with what was trained of it (norms, in
/// Pfeiffer's adapters), and what PEFT or AdapterHub can read of an adapter to `dir/adapter`.
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
    let layout = kind.as_ref().and_then(|k| Layout::of(model.config.adapter.method, k));
    let parts: Vec<(&String, String)> = match (&layout, &kind) {
        (Some(l), Some(k)) => added.iter().filter_map(|n| Some((n, l.theirs(k, n.strip_prefix(&prefix)?)?))).collect(),
        _ => vec![],
    };
    let adapter = match (layout, kind) {
        (Some(layout), Some(kind)) if !parts.is_empty() => {
            let to = staged.path().join("adapter");
            std::fs::create_dir(&to).map_err(Error::io(&to))?;
            let c = &model.config.item;
            let called = if place == "text" { &c.model } else { &c.image.model };
            let called = Path::new(called).file_name().map_or(called.clone(), |n| n.to_string_lossy().into_owned());
            fsio::write_json(&to.join("adapter_config.json"), &layout.config(&model.config.adapter, &kind, &called))?;
            let shape = |n: &String| model.weights.shape(n).unwrap_or_default().to_vec();
            let entries: Vec<_> = parts.iter().map(|(ours, theirs)| (theirs.clone(), shape(ours))).collect();
            let meta = [("format".to_string(), "pt".to_string())].into();
            let read = |i: usize| Ok(model.weights.read(parts[i].0)?.into());
            weights::save_each(&to.join(layout.file()), &entries, meta, read)?;
            Some(dir.join("adapter"))
        }
        _ => None,
    };
    staged.commit()?;
    Ok(Exported { encoder: dir.into(), adapter })
}
