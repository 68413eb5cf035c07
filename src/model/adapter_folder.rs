//! Adapter folders: the trained parameters, and the digest of the base model.
//!
//! ```text
//! manifest.json  config.toml  adapter.safetensors          kind `adapter`; its facts name the base
//! [text/ image/]{adapter_config.json, *.safetensors}       in PEFT's or AdapterHub's layout
//! ```

use super::base_model::BaseModel;
use super::layout::{EncoderInfo, Layout, NAME};
use super::recommender::Recommender;
use crate::config::{Config, Modality};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::item::Encoders;
use crate::nn::Params;
use crate::nn::weights::Weights;
use std::path::{Component, Path, PathBuf};

/// Kind of an adapter folder in its manifest.
pub(super) const KIND: &str = "adapter";
/// Format version of an adapter folder in its manifest.
pub(super) const FORMAT: u32 = 1;
/// Advice for a folder of another format version.
pub(super) const REMAKE: &str = "train again, or use the version that wrote it";
/// File of the parameters under this crate's names.
pub(super) const OWN: &str = "adapter.safetensors";

/// Relative path from one folder to another, both given as absolute paths.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (a, b): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let up = a[same..].iter().map(|_| Component::ParentDir);
    up.chain(b[same..].iter().copied()).collect()
}

/// The encoders of a model whose adapters can be stored in another package's layout.
fn layouts(config: &Config, encoders: &Encoders) -> Vec<(Modality, EncoderInfo, Layout)> {
    let known = encoders.iter().filter_map(|e| {
        let info = EncoderInfo::parse(e.config_json())?;
        Some((e.modality(), info.clone(), Layout::of(config.adapter.method, &info)?))
    });
    known.collect()
}

/// Writes the parameters of a model that differ from its base; returns the names of the files.
pub(super) fn save(dir: &Path, model: &Recommender) -> Result<Vec<String>> {
    let mut files = vec![];
    let own = |name: &str| model.params.get(name).is_some_and(|p| p.differs_from_source());
    let mut elsewhere: Vec<String> = vec![];
    for (modality, kind, layout) in layouts(&model.config, &model.encoders) {
        let (name, prefix) = (modality.name(), modality.backbone_prefix());
        let named = |name: &str| {
            let added = model.params.get(name).is_some_and(|p| p.is_adapter() && p.differs_from_source());
            layout.to_external(&kind, name.strip_prefix(&prefix).filter(|_| added)?)
        };
        let mine: Vec<String> =
            model.params.iter().filter(|p| named(p.name()).is_some()).map(|p| p.name().into()).collect();
        if mine.is_empty() {
            continue;
        }
        let written = layout
            .write(&dir.join(name), &model.config, (modality, &kind), |path| model.params.save_some(path, named))?;
        files.extend(written.map(|file| format!("{name}/{file}")));
        elsewhere.extend(mine);
    }
    let rest = |name: &str| (own(name) && !elsewhere.iter().any(|e| e == name)).then(|| name.to_string());
    model.params.save_some(&dir.join(OWN), rest)?;
    files.push(OWN.into());
    Ok(files)
}

/// Facts for the manifest, among them the base model, also as a path relative to this folder.
pub(super) fn facts(dir: &Path, base: &BaseModel, params: &Params) -> serde_json::Value {
    let here = dir.canonicalize().unwrap_or_else(|_| dir.into());
    let own = params.iter().filter(|p| p.differs_from_source());
    serde_json::json!({
        "base": base,
        "relative": relative(&here, &base.path),
        "parameters": params.iter().map(|p| p.numel()).sum::<usize>(),
        "trainable": params.trainable().map(|p| p.numel()).sum::<usize>(),
        "own": own.map(|p| p.numel()).sum::<usize>(),
    })
}

/// Reads the base model from a folder's manifest.
pub fn base_of(dir: &Path) -> Result<BaseModel> {
    let manifest = Manifest::read(dir, KIND, FORMAT, REMAKE)?;
    serde_json::from_value(manifest.facts["base"].clone())
        .map_err(|e| Error::model(dir.join(fsio::MANIFEST), format!("damaged: facts.base: {e}")))
}

/// The parameters in an adapter's folder, under this crate's names.
pub(super) fn own_weights(dir: &Path, config: &Config, encoders: &Encoders) -> Result<Weights> {
    let mut all = Weights::open(&dir.join(OWN))?;
    for (modality, kind, layout) in layouts(config, encoders) {
        let path = dir.join(modality.name()).join(layout.file());
        if path.exists() {
            let prefix = modality.backbone_prefix();
            let ours = |theirs: &str| layout.to_internal(&kind, theirs, NAME).map(|n| format!("{prefix}{n}"));
            all = all.overlay(&Weights::open(&path)?.renamed(ours)?);
        }
    }
    Ok(all)
}
