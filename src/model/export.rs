//! Export of a recommender's encoder as a Hugging Face folder, with its adapter, for Python packages.

use super::ModelFolder;
use super::layout::{EncoderInfo, Layout};
use crate::config::Modality;
use crate::error::{Error, Result};
use crate::fsio::{self, Staged};
use crate::nn::weights;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Folders written by an export.
#[derive(Debug, Clone, Serialize)]
pub struct Exported {
    /// Hugging Face folder of the encoder.
    pub encoder: PathBuf,
    /// Folder of the adapter in PEFT's or AdapterHub's layout, if there is one.
    pub adapter: Option<PathBuf>,
}

/// Writes the encoder of `modality` to `dir` under its Hugging Face names, with its trained values (for example the
/// norms in Pfeiffer's method). Writes the part of an adapter that PEFT or AdapterHub can read to `dir/adapter`.
pub fn export(model: &ModelFolder, modality: Modality, dir: &Path) -> Result<Exported> {
    let name = modality.name();
    let source = model.encoders.get(modality);
    let source = source.ok_or_else(|| Error::Usage(format!("--encoder {name}: this model has no such encoder")))?;
    let files = source.files();
    let prefix = modality.backbone_prefix();
    let added: Vec<String> = model.blueprint().declare()?.into_iter().filter(|s| s.added).map(|s| s.name).collect();
    let names: Vec<&str> =
        model.weights.names().filter(|n| n.starts_with(&prefix) && !added.iter().any(|a| a == n)).collect();
    let staged = Staged::new(dir)?;
    for (name, text) in &files {
        fsio::write_bytes(&staged.path().join(name), text.as_bytes())?;
    }
    // Pairs of a name in this crate and the name in the file.
    let save = |path: &Path, pairs: &[(&str, String)]| {
        let stored = pairs.iter().map(|(ours, _)| model.weights.stored(ours)).collect::<Result<Vec<_>>>()?;
        let named = pairs.iter().zip(&stored).map(|((_, theirs), s)| (theirs.clone(), s.shape().to_vec()));
        weights::save_each(path, &named.collect::<Vec<_>>(), weights::pytorch_metadata(), |i| {
            Ok(stored[i].read().into())
        })
    };
    let encoder: Vec<(&str, String)> = names.iter().map(|n| (*n, n[prefix.len()..].to_string())).collect();
    save(&staged.path().join("model.safetensors"), &encoder)?;
    let kind = EncoderInfo::parse(files[0].1);
    let known = kind.and_then(|k| Some((Layout::of(model.config.adapter.method, &k)?, k)));
    let mut adapter = None;
    if let Some((layout, kind)) = known {
        let theirs = |ours: &str| layout.to_external(&kind, ours.strip_prefix(&prefix)?);
        let parts: Vec<(&str, String)> = added.iter().filter_map(|n| Some((n.as_str(), theirs(n)?))).collect();
        if !parts.is_empty() {
            let to = staged.path().join("adapter");
            layout.write(&to, &model.config, (modality, &kind), |path| save(path, &parts))?;
            adapter = Some(dir.join("adapter"));
        }
    }
    staged.commit()?;
    Ok(Exported { encoder: dir.into(), adapter })
}
