//! A model on disk: settings, weights and tokenizer; rebuilt without the data set or the original encoder folder.
//!
//! ```text
//! manifest.json  config.toml  model.safetensors  [encoder/config.json encoder/tokenizer.json]
//! [image-encoder/config.json image-encoder/preprocessor_config.json]  [items.json] [users.json]
//! ```
//!
//! An adapter's folder holds only what differs from its base ([`super::base`]); it is opened the same way.

use super::{Base, Blueprint, Counts, Ids, Recommender, base};
use crate::config::{Config, ItemKind};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::item::image::ImageFolder;
use crate::item::text::TextFolder;
use crate::nn::weights::Weights;
use crate::nn::{Origin, Resolved, params::Action};
use candle_core::Device;
use std::path::{Path, PathBuf};

pub(super) const FORMAT: u32 = 1;
pub(super) const KIND: &str = "model";
pub(super) const REMAKE: &str = "train again, or use the version that wrote it";

/// An opened model folder.
pub struct ModelFolder {
    /// Where it is.
    pub dir: PathBuf,
    /// Its settings.
    pub config: Config,
    /// Its values.
    pub weights: Weights,
    /// Its text encoder's configuration and tokenizer, for text items.
    pub text: Option<TextFolder>,
    /// Its image encoder's configuration and preprocessing, for items with pictures.
    pub image: Option<ImageFolder>,
    /// Raw ids of the rows of the ID table, for ID items.
    pub items: Option<Vec<String>>,
    /// Raw ids of the rows of the table of users, for user encoders that have one.
    pub users: Option<Vec<String>>,
    /// Digest of its files.
    pub digest: String,
    /// The model it belongs to, for an adapter; the values that are not its own come from there.
    pub base: Option<Base>,
    /// Names of its own values, for an adapter.
    pub own: Vec<String>,
}

/// Writes a model into an existing folder (usually a [`fsio::Staged`] one), or what differs from its base. `ids` are those of
/// its tables.
pub fn save(dir: &Path, model: &Recommender, ids: Ids) -> Result<()> {
    if let Some(base) = &model.base {
        let mut files = vec!["config.toml".to_string()];
        fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(&model.config)?.as_bytes())?;
        files.extend(base::save(dir, model)?);
        let mut manifest = Manifest::new(base::KIND, base::FORMAT);
        manifest.inputs.insert("base".into(), base.digest.clone());
        manifest.facts = base::facts(dir, base, &model.params);
        manifest.seal(dir, &files.iter().map(String::as_str).collect::<Vec<_>>())?;
        return Ok(());
    }
    let (text, image) = (model.folder.as_ref(), model.image.as_ref());
    let mut files = settings(dir, &model.config, (text, image), ids)?;
    model.params.save(&dir.join("model.safetensors"))?;
    files.push("model.safetensors");
    let mut manifest = Manifest::new(KIND, FORMAT);
    manifest.facts = serde_json::json!({
        "parameters": model.params.iter().map(|p| p.numel()).sum::<usize>(),
        "trainable": model.params.trainable().map(|p| p.numel()).sum::<usize>(),
    });
    manifest.seal(dir, &files)?;
    Ok(())
}

/// Everything of a model's folder but its values and the manifest; returns the files.
pub(super) fn settings(
    dir: &Path,
    config: &Config,
    (text, image): (Option<&TextFolder>, Option<&ImageFolder>),
    ids: Ids,
) -> Result<Vec<&'static str>> {
    let mut files = vec!["config.toml"];
    fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(config)?.as_bytes())?;
    if let Some(t) = text {
        let enc = dir.join("encoder");
        std::fs::create_dir_all(&enc).map_err(Error::io(&enc))?;
        fsio::write_bytes(&enc.join("config.json"), t.config_json.as_bytes())?;
        fsio::write_bytes(&enc.join("tokenizer.json"), t.tokenizer_json.as_bytes())?;
        files.extend(["encoder/config.json", "encoder/tokenizer.json"]);
    }
    if let Some(i) = image {
        let enc = dir.join("image-encoder");
        std::fs::create_dir_all(&enc).map_err(Error::io(&enc))?;
        fsio::write_bytes(&enc.join("config.json"), i.config_json.as_bytes())?;
        fsio::write_bytes(&enc.join("preprocessor_config.json"), i.preprocess_json.as_bytes())?;
        files.extend(["image-encoder/config.json", "image-encoder/preprocessor_config.json"]);
    }
    if config.item.kind == ItemKind::Id {
        fsio::write_json(&dir.join("items.json"), &ids.items)?;
        files.push("items.json");
    }
    if config.user.user_id {
        fsio::write_json(&dir.join("users.json"), &ids.users)?;
        files.push("users.json");
    }
    Ok(files)
}

fn is_adapter(dir: &Path) -> bool {
    dir.join(base::OWN).exists() && !dir.join("model.safetensors").exists()
}

/// The manifest of a model's or an adapter's folder.
pub fn manifest(dir: &Path) -> Result<Manifest> {
    let (kind, format) = if is_adapter(dir) { (base::KIND, base::FORMAT) } else { (KIND, FORMAT) };
    Manifest::read(dir, kind, format, REMAKE)
}

/// Compares every file of a model folder with its recorded digest.
pub fn check(dir: &Path) -> Result<()> {
    manifest(dir)?.verify(dir, true)
}

/// Bytes of a folder's files.
pub fn size(dir: &Path) -> Result<u64> {
    Ok(manifest(dir)?.files.values().map(|f| f.bytes).sum())
}

/// The values that a folder itself holds: all of a model's, an adapter's own.
pub fn values(dir: &Path, model: &Recommender) -> Result<Weights> {
    if !is_adapter(dir) {
        return Weights::open(&dir.join("model.safetensors"));
    }
    let text = model.folder.as_ref().map(|t| t.config_json.as_str());
    base::values(dir, &model.config, text, model.image.as_ref().map(|i| i.config_json.as_str()))
}

impl ModelFolder {
    /// The model folder that a path names: itself, or the best (else the last) model of a run.
    pub fn find(path: &Path) -> Option<PathBuf> {
        let candidates = [path.to_path_buf(), path.join("best"), path.join("last/model")];
        let holds = |d: &PathBuf| ["model.safetensors", base::OWN].iter().any(|f| d.join(f).exists());
        candidates.into_iter().find(|d| holds(d) && d.join(fsio::MANIFEST).exists())
    }
    /// Opens a model folder, or the best (else the last) model of a run folder.
    pub fn open(path: &Path) -> Result<Self> {
        let Some(dir) = Self::find(path) else {
            let m = "neither a run nor a model folder; `morec train` makes runs/<name> with best/ and last/ in it";
            return Err(Error::model(path, m));
        };
        if is_adapter(&dir) {
            return Self::open_on(&dir, None);
        }
        let manifest = Manifest::read(&dir, KIND, FORMAT, REMAKE)?;
        manifest.verify(&dir, true)?;
        let config = crate::config::load_stored(&dir)?;
        let kind = config.item.kind;
        let text = kind.text().then(|| TextFolder::open(&dir.join("encoder"), false)).transpose()?;
        let image = kind.image().then(|| ImageFolder::open(&dir.join("image-encoder"), false)).transpose()?;
        let list = |name: &str, wanted: bool| -> Result<Option<Vec<String>>> {
            if !wanted {
                return Ok(None);
            }
            let path = dir.join(name);
            let text = fsio::read_model_text(&path)?;
            serde_json::from_str(&text).map(Some).map_err(|e| Error::model(&path, format!("damaged: {e}")))
        };
        let items = list("items.json", config.item.kind == ItemKind::Id)?;
        let users = list("users.json", config.user.user_id)?;
        let weights = Weights::open(&dir.join("model.safetensors"))?;
        let (base, own) = (None, vec![]);
        Ok(Self { digest: manifest.digest(), dir, config, weights, text, image, items, users, base, own })
    }
    /// Opens an adapter's folder on its base: `given`, or where that was.
    pub fn open_on(dir: &Path, given: Option<&Path>) -> Result<Self> {
        let manifest = Manifest::read(dir, base::KIND, base::FORMAT, REMAKE)?;
        manifest.verify(dir, true)?;
        let under = base::find_base(dir, given)?;
        let config = crate::config::load_stored(dir)?;
        let text = under.text.as_ref().map(|t| t.config_json.as_str());
        let own = base::values(dir, &config, text, under.image.as_ref().map(|i| i.config_json.as_str()))?;
        let names = own.names().map(String::from).collect();
        let digest = fsio::sha256_bytes(format!("{} {}", manifest.digest(), under.digest).as_bytes());
        let (base, weights) = (Some(Base::of(&under)), own.over(&under.weights));
        Ok(Self { dir: dir.into(), config, weights, digest, base, own: names, ..under })
    }
    /// The blueprint it was built from.
    pub fn blueprint(&self) -> Blueprint {
        let count = |ids: &Option<Vec<String>>| ids.as_ref().map_or(0, Vec::len);
        let counts = Counts { items: count(&self.items), users: count(&self.users) };
        let (config, base) = (self.config.clone(), self.base.clone());
        Blueprint { config, counts, folder: self.text.clone(), image: self.image.clone(), base }
    }
    /// The model, nothing trainable.
    pub fn build(&self, device: &Device) -> Result<Recommender> {
        let blueprint = self.blueprint();
        let frozen = Action { origin: Origin::Source, train: false, lr: None };
        let actions: Resolved =
            blueprint.declare().map_err(|e| self.own_fault(e))?.into_iter().map(|s| (s.name, frozen)).collect();
        blueprint.build(device, &actions, Some(&self.weights)).map_err(|e| self.own_fault(e))
    }
    /// A model whose own files do not fit each other: the settings that were found wrong are its, not the user's.
    fn own_fault(&self, e: Error) -> Error {
        match e {
            Error::Config { key, message } => Error::model(&self.dir, format!("damaged: {key}: {message}; {REMAKE}")),
            e => e,
        }
    }
}
