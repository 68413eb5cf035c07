//! A model on disk: settings, weights and tokenizer; rebuilt without the data set or the original encoder folder.
//!
//! ```text
//! manifest.json  config.toml  model.safetensors  [encoder/config.json encoder/tokenizer.json]
//! [image-encoder/config.json image-encoder/preprocessor_config.json]  [items.json] [users.json]
//! ```

use super::{Blueprint, Counts, Ids, Recommender};
use crate::config::{Config, ItemKind};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::item::image::ImageFolder;
use crate::item::text::TextFolder;
use crate::nn::weights::Weights;
use crate::nn::{Origin, Resolved, params::Action};
use candle_core::Device;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const KIND: &str = "model";
const REMAKE: &str = "train again, or use the version that wrote it";

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
}

/// Writes a model into an existing folder (usually a [`fsio::Staged`] one). `ids` are those of its tables.
pub fn save(dir: &Path, model: &Recommender, ids: Ids) -> Result<()> {
    let mut files = vec!["config.toml", "model.safetensors"];
    fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(&model.config)?.as_bytes())?;
    model.params.save(&dir.join("model.safetensors"))?;
    if let Some(t) = &model.folder {
        let enc = dir.join("encoder");
        std::fs::create_dir_all(&enc).map_err(Error::io(&enc))?;
        fsio::write_bytes(&enc.join("config.json"), t.config_json.as_bytes())?;
        fsio::write_bytes(&enc.join("tokenizer.json"), t.tokenizer_json.as_bytes())?;
        files.extend(["encoder/config.json", "encoder/tokenizer.json"]);
    }
    if let Some(i) = &model.image {
        let enc = dir.join("image-encoder");
        std::fs::create_dir_all(&enc).map_err(Error::io(&enc))?;
        fsio::write_bytes(&enc.join("config.json"), i.config_json.as_bytes())?;
        fsio::write_bytes(&enc.join("preprocessor_config.json"), i.preprocess_json.as_bytes())?;
        files.extend(["image-encoder/config.json", "image-encoder/preprocessor_config.json"]);
    }
    if model.config.item.kind == ItemKind::Id {
        fsio::write_json(&dir.join("items.json"), &ids.items)?;
        files.push("items.json");
    }
    if model.config.user.user_id {
        fsio::write_json(&dir.join("users.json"), &ids.users)?;
        files.push("users.json");
    }
    let mut manifest = Manifest::new(KIND, FORMAT);
    manifest.facts = serde_json::json!({
        "parameters": model.params.iter().map(|p| p.numel()).sum::<usize>(),
        "trainable": model.params.trainable().map(|p| p.numel()).sum::<usize>(),
    });
    manifest.seal(dir, &files)?;
    Ok(())
}

/// Compares every file of a model folder with its recorded digest.
pub fn check(dir: &Path) -> Result<()> {
    Manifest::read(dir, KIND, FORMAT, REMAKE)?.verify(dir, true)
}

impl ModelFolder {
    /// The model folder that a path names: itself, or the best (else the last) model of a run.
    pub fn find(path: &Path) -> Option<PathBuf> {
        let candidates = [path.to_path_buf(), path.join("best"), path.join("last/model")];
        candidates.into_iter().find(|d| d.join("model.safetensors").exists() && d.join(fsio::MANIFEST).exists())
    }
    /// Opens a model folder, or the best (else the last) model of a run folder.
    pub fn open(path: &Path) -> Result<Self> {
        let Some(dir) = Self::find(path) else {
            let m = "neither a run nor a model folder; `morec train` makes runs/<name> with best/ and last/ in it";
            return Err(Error::model(path, m));
        };
        let manifest = Manifest::read(&dir, KIND, FORMAT, REMAKE)?;
        manifest.verify(&dir, true)?;
        let files = [dir.join("config.toml")];
        let config = crate::config::load(&Config::default(), &files, &[])?;
        let kind = config.item.kind;
        let text = kind.text().then(|| TextFolder::open(&dir.join("encoder"), false)).transpose()?;
        let image = kind.image().then(|| ImageFolder::open(&dir.join("image-encoder"), false)).transpose()?;
        let list = |name: &str, wanted: bool| -> Result<Option<Vec<String>>> {
            if !wanted {
                return Ok(None);
            }
            let path = dir.join(name);
            let text = fsio::read_text(&path)?;
            serde_json::from_str(&text).map(Some).map_err(|e| Error::model(&path, format!("damaged: {e}")))
        };
        let items = list("items.json", config.item.kind == ItemKind::Id)?;
        let users = list("users.json", config.user.user_id)?;
        let weights = Weights::open(&dir.join("model.safetensors"))?;
        Ok(Self { digest: manifest.digest(), dir, config, weights, text, image, items, users })
    }
    /// The blueprint it was built from.
    pub fn blueprint(&self) -> Blueprint {
        let count = |ids: &Option<Vec<String>>| ids.as_ref().map_or(0, Vec::len);
        let counts = Counts { items: count(&self.items), users: count(&self.users) };
        Blueprint { config: self.config.clone(), counts, folder: self.text.clone(), image: self.image.clone() }
    }
    /// The model, nothing trainable.
    pub fn build(&self, device: &Device) -> Result<Recommender> {
        let blueprint = self.blueprint();
        let frozen = Action { origin: Origin::Source, train: false, lr: None };
        let actions: Resolved = blueprint.declare()?.into_iter().map(|s| (s.name, frozen)).collect();
        blueprint.build(device, &actions, Some(&self.weights))
    }
}
