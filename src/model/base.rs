//! Adapters on disk: what was learned, and the digest of the model it was learned on.
//!
//! ```text
//! manifest.json  config.toml  adapter.safetensors          kind `adapter`; its facts name the base
//! [text/ image/]{adapter_config.json, *.safetensors}       in PEFT's or AdapterHub's layout
//! ```

use super::layout::{Kind, Layout, NAME};
use super::{ModelFolder, Recommender};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::nn::Params;
use crate::nn::weights::Weights;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// Kind and format of such folders.
pub(super) const KIND: &str = "adapter";
pub(super) const FORMAT: u32 = 1;
/// Values under our own names.
pub(super) const OWN: &str = "adapter.safetensors";

/// The model that an adapter belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// Its folder, as an absolute path.
    pub path: PathBuf,
    /// Digest of its files.
    pub digest: String,
}

impl Base {
    /// Of an opened model.
    pub fn of(folder: &ModelFolder) -> Self {
        let path = folder.dir.canonicalize().unwrap_or_else(|_| folder.dir.clone());
        Self { path, digest: folder.digest.clone() }
    }
}

/// From one folder to another, both absolute.
fn relative(from: &Path, to: &Path) -> PathBuf {
    let (a, b): (Vec<Component>, Vec<Component>) = (from.components().collect(), to.components().collect());
    let same = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    let up = a[same..].iter().map(|_| Component::ParentDir);
    up.chain(b[same..].iter().copied()).collect()
}

/// Encoders of a model that may have an adapter in a known layout: `text` or `image`, what it is, which layout.
fn layouts(config: &Config, text: Option<&str>, image: Option<&str>) -> Vec<(&'static str, Kind, Layout)> {
    let places = [("text", text), ("image", image)];
    let known = places.into_iter().filter_map(|(place, json)| {
        let kind = Kind::parse(json?)?;
        Some((place, kind.clone(), Layout::of(config.adapter.method, &kind)?))
    });
    known.collect()
}

/// Writes what a model does not have from its base; returns the files.
pub(super) fn save(dir: &Path, model: &Recommender) -> Result<Vec<String>> {
    let mut files = vec![];
    let own = |name: &str| model.params.get(name).is_some_and(|p| p.is_own());
    let mut elsewhere: Vec<String> = vec![];
    let (text, image) = (model.folder.as_ref(), model.image.as_ref());
    let found = layouts(&model.config, text.map(|t| t.config_json.as_str()), image.map(|i| i.config_json.as_str()));
    for (place, kind, layout) in found {
        let prefix = format!("item_encoder.{place}.model.");
        let named = |name: &str| {
            let added = model.params.get(name).is_some_and(|p| p.is_added() && p.is_own());
            layout.theirs(&kind, name.strip_prefix(&prefix).filter(|_| added)?)
        };
        let mine: Vec<String> =
            model.params.iter().filter(|p| named(p.name()).is_some()).map(|p| p.name().into()).collect();
        if mine.is_empty() {
            continue;
        }
        let written = layout
            .write(&dir.join(place), &model.config, (place, &kind), |path| model.params.save_some(path, named))?;
        files.extend(written.map(|name| format!("{place}/{name}")));
        elsewhere.extend(mine);
    }
    let rest = |name: &str| (own(name) && !elsewhere.iter().any(|e| e == name)).then(|| name.to_string());
    model.params.save_some(&dir.join(OWN), rest)?;
    files.push(OWN.into());
    Ok(files)
}

/// Facts of a manifest: the base, also as a path from here.
pub(super) fn facts(dir: &Path, base: &Base, params: &Params) -> serde_json::Value {
    let here = dir.canonicalize().unwrap_or_else(|_| dir.into());
    let own = params.iter().filter(|p| p.is_own());
    serde_json::json!({
        "base": base,
        "relative": relative(&here, &base.path),
        "parameters": params.iter().map(|p| p.numel()).sum::<usize>(),
        "trainable": params.trainable().map(|p| p.numel()).sum::<usize>(),
        "own": own.map(|p| p.numel()).sum::<usize>(),
    })
}

/// What a folder's manifest says of its base.
pub fn base_of(dir: &Path) -> Result<Base> {
    let manifest = Manifest::read(dir, KIND, FORMAT, super::folder::REMAKE)?;
    serde_json::from_value(manifest.facts["base"].clone())
        .map_err(|e| Error::model(dir.join(fsio::MANIFEST), format!("damaged: facts.base: {e}")))
}

/// Where the base of an adapter's folder may be: its path then, and its path as seen from the folder.
fn places(dir: &Path, manifest: &Manifest, base: &Base) -> Vec<PathBuf> {
    let relative = manifest.facts["relative"].as_str().map(|r| dir.join(r));
    [Some(base.path.clone()), relative].into_iter().flatten().collect()
}

/// A model's folder, the base it belongs to, that one's, and so on.
///
/// # Errors
/// [`Error::Model`] when a folder is its own base, which would be opened without end.
pub fn chain(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    follow(dir, &mut vec![], &mut all)?;
    Ok(all)
}

/// `above`: the adapters on the way to `dir`; `all`: every folder found so far.
fn follow(dir: &Path, above: &mut Vec<PathBuf>, all: &mut Vec<PathBuf>) -> Result<()> {
    let here = ModelFolder::find(dir).unwrap_or_else(|| dir.into());
    let here = here.canonicalize().unwrap_or(here);
    if above.contains(&here) {
        let m = format!("`{}` is its own base, by way of others; train one of them again", here.display());
        return Err(Error::model(dir, m));
    }
    if all.contains(&here) {
        return Ok(());
    }
    all.push(here.clone());
    let manifest = Manifest::read(&here, KIND, FORMAT, super::folder::REMAKE);
    let (Ok(manifest), Ok(base)) = (manifest, base_of(&here)) else { return Ok(()) };
    above.push(here.clone());
    for place in places(&here, &manifest, &base) {
        follow(&place, above, all)?;
    }
    above.pop();
    Ok(())
}

/// Finds the base of an adapter's folder: where `given` says, else where it was, also seen from the folder.
pub fn find_base(dir: &Path, given: Option<&Path>) -> Result<ModelFolder> {
    let manifest = Manifest::read(dir, KIND, FORMAT, super::folder::REMAKE)?;
    let base = base_of(dir)?;
    chain(dir)?;
    let places = match given {
        Some(g) => vec![g.to_path_buf()],
        None => places(dir, &manifest, &base),
    };
    let mut other = None;
    for place in places.iter().filter(|p| ModelFolder::find(p).is_some()) {
        let found = ModelFolder::open(place)?;
        if found.digest == base.digest {
            return Ok(found);
        }
        other = Some((place, found.digest));
    }
    let short = |d: &str| d[..12.min(d.len())].to_string();
    Err(Error::model(
        dir,
        match other {
            Some((place, digest)) => format!(
                "belongs to another base than `{}`: that one has digest {}…, this adapter was trained on {}…; train the \
                 adapter again, or put the old base back",
                place.display(),
                short(&digest),
                short(&base.digest)
            ),
            None => format!(
                "its base (digest {}…) is not at `{}`; put it there, or make a whole model with \
                 `morec adapters merge {} --base MODEL --out NEW`",
                short(&base.digest),
                base.path.display(),
                dir.display()
            ),
        },
    ))
}

/// The values in an adapter's folder, under our names.
pub(super) fn values(dir: &Path, config: &Config, text: Option<&str>, image: Option<&str>) -> Result<Weights> {
    let mut all = Weights::open(&dir.join(OWN))?;
    for (place, kind, layout) in layouts(config, text, image) {
        let path = dir.join(place).join(layout.file());
        if path.exists() {
            let ours =
                |theirs: &str| layout.ours(&kind, theirs, NAME).map(|n| format!("item_encoder.{place}.model.{n}"));
            all = all.over(&Weights::open(&path)?.renamed(ours)?);
        }
    }
    Ok(all)
}
