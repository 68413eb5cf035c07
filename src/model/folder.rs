//! Model folders: settings, weights and tokenizer. A model is rebuilt from them without the data set or the original
//! encoder folder.
//!
//! ```text
//! manifest.json  config.toml  model.safetensors  [encoder/config.json encoder/tokenizer.json]
//! [image-encoder/config.json image-encoder/preprocessor_config.json]  [items.json] [users.json]
//! ```
//!
//! An adapter's folder contains only what differs from its base ([`super::adapter_folder`]); it is opened in the same
//! way.

use super::adapter_folder::{self, REMAKE, base_of};
use super::{BaseModel, Blueprint, Recommender, TableIds, TableSizes};
use crate::config::{Config, ItemKind, Modality, UserKind};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::item::{EncoderFolder, Encoders};
use crate::nn::weights::Weights;
use crate::nn::{Origin, Resolved, params::Action};
use crate::user::UserEncoderBuilder;
use candle_core::Device;
use std::path::{Path, PathBuf};

/// Format version of a model folder in its manifest.
pub(super) const FORMAT: u32 = 1;
/// Kind of a model folder in its manifest.
pub(super) const KIND: &str = "model";

/// An opened model folder.
pub struct ModelFolder {
    /// Path of the folder.
    pub dir: PathBuf,
    /// Settings of the model.
    pub config: Config,
    /// Parameters of the model.
    pub weights: Weights,
    /// Configurations, tokenizers and preprocessing of its pre-trained encoders.
    pub encoders: Encoders,
    /// Raw ids of the rows of the item table, for models with ID items.
    pub items: Option<Vec<String>>,
    /// Raw ids of the rows of the user table, for user encoders that have one.
    pub users: Option<Vec<String>>,
    /// Digest of the folder's files.
    pub digest: String,
    /// Base model of an adapter, which supplies the parameters that the adapter does not contain.
    pub base: Option<BaseModel>,
    /// Names of the parameters that an adapter's folder itself contains.
    pub own: Vec<String>,
    /// Builds the user encoder of `user.kind = "custom"`; see [`ModelFolder::with_user_encoder`].
    pub user_encoder: Option<UserEncoderBuilder>,
}

/// Writes a model, or for an adapter what differs from its base, to an existing folder (usually a [`fsio::Staged`]
/// one). `ids` are the raw ids of its tables' rows.
pub fn save(dir: &Path, model: &Recommender, ids: TableIds) -> Result<()> {
    if let Some(base) = &model.base {
        let mut files = vec!["config.toml".to_string()];
        fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(&model.config)?.as_bytes())?;
        files.extend(adapter_folder::save(dir, model)?);
        let mut manifest = Manifest::new(adapter_folder::KIND, adapter_folder::FORMAT);
        manifest.inputs.insert("base".into(), base.digest.clone());
        manifest.facts = adapter_folder::facts(dir, base, &model.params);
        manifest.seal(dir, &files.iter().map(String::as_str).collect::<Vec<_>>())?;
        return Ok(());
    }
    let mut files = write_settings(dir, &model.config, &model.encoders, ids)?;
    model.params.save(&dir.join("model.safetensors"))?;
    files.push("model.safetensors".into());
    let mut manifest = Manifest::new(KIND, FORMAT);
    manifest.facts = serde_json::json!({
        "parameters": model.params.iter().map(|p| p.numel()).sum::<usize>(),
        "trainable": model.params.trainable().map(|p| p.numel()).sum::<usize>(),
    });
    manifest.seal(dir, &files.iter().map(String::as_str).collect::<Vec<_>>())?;
    Ok(())
}

/// Writes all files of a model's folder except parameters and manifest; returns the names of the files.
pub(super) fn write_settings(dir: &Path, config: &Config, encoders: &Encoders, ids: TableIds) -> Result<Vec<String>> {
    let mut files = vec!["config.toml".to_string()];
    fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(config)?.as_bytes())?;
    for encoder in encoders.iter() {
        let folder = EncoderFolder::checkpoint_folder(encoder.modality());
        let path = dir.join(folder);
        std::fs::create_dir_all(&path).map_err(Error::io(&path))?;
        for (name, text) in encoder.files() {
            fsio::write_bytes(&path.join(name), text.as_bytes())?;
            files.push(format!("{folder}/{name}"));
        }
    }
    if config.item.kind == ItemKind::Id {
        fsio::write_json(&dir.join("items.json"), &ids.items)?;
        files.push("items.json".into());
    }
    if config.user.user_id {
        fsio::write_json(&dir.join("users.json"), &ids.users)?;
        files.push("users.json".into());
    }
    Ok(files)
}

fn is_adapter(dir: &Path) -> bool {
    dir.join(adapter_folder::OWN).exists() && !dir.join("model.safetensors").exists()
}

/// Reads the manifest of a model's or an adapter's folder.
pub fn manifest(dir: &Path) -> Result<Manifest> {
    let (kind, format) = if is_adapter(dir) { (adapter_folder::KIND, adapter_folder::FORMAT) } else { (KIND, FORMAT) };
    Manifest::read(dir, kind, format, REMAKE)
}

/// Compares every file of a model folder with its recorded digest; an error if one differs.
pub fn check(dir: &Path) -> Result<()> {
    manifest(dir)?.verify(dir, true)
}

/// Total size of a folder's files in bytes.
pub fn size(dir: &Path) -> Result<u64> {
    Ok(manifest(dir)?.files.values().map(|f| f.bytes).sum())
}

/// Opens the parameters that a folder itself contains: all of a model's, or only the adapter's own.
pub fn values(dir: &Path, model: &Recommender) -> Result<Weights> {
    if !is_adapter(dir) {
        return Weights::open(&dir.join("model.safetensors"));
    }
    adapter_folder::own_weights(dir, &model.config, &model.encoders)
}

impl ModelFolder {
    /// The model folder that a path refers to: the path itself, or the best (otherwise the last) model of a run folder.
    pub fn find(path: &Path) -> Option<PathBuf> {
        let candidates = [path.to_path_buf(), path.join("best"), path.join("last/model")];
        let holds = |d: &PathBuf| ["model.safetensors", adapter_folder::OWN].iter().any(|f| d.join(f).exists());
        candidates.into_iter().find(|d| holds(d) && d.join(fsio::MANIFEST).exists())
    }
    /// Opens a model folder, or the best (otherwise the last) model of a run folder.
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
        let open = |&m: &Modality| EncoderFolder::open(m, &dir.join(EncoderFolder::checkpoint_folder(m)), false);
        let encoders = config.item.kind.modalities().iter().map(open).collect::<Result<Encoders>>()?;
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
        Ok(Self {
            digest: manifest.digest(),
            dir,
            config,
            weights,
            encoders,
            items,
            users,
            base,
            own,
            user_encoder: None,
        })
    }
    /// Opens an adapter's folder on its base, which is `given` or the path recorded in the manifest.
    pub fn open_on(dir: &Path, given: Option<&Path>) -> Result<Self> {
        let manifest = Manifest::read(dir, adapter_folder::KIND, adapter_folder::FORMAT, REMAKE)?;
        manifest.verify(dir, true)?;
        let under = find_base(dir, given)?;
        let config = crate::config::load_stored(dir)?;
        let own = adapter_folder::own_weights(dir, &config, &under.encoders)?;
        let names = own.names().map(String::from).collect();
        let digest = fsio::sha256_bytes(format!("{} {}", manifest.digest(), under.digest).as_bytes());
        let (base, weights) = (Some(under.as_base()), own.overlay(&under.weights));
        Ok(Self { dir: dir.into(), config, weights, digest, base, own: names, ..under })
    }
    /// Sets the builder of the user encoder with which a model of `user.kind = "custom"` was trained.
    pub fn with_user_encoder(self, builder: UserEncoderBuilder) -> Self {
        Self { user_encoder: Some(builder), ..self }
    }
    /// Path and digest of this model, as the base of an adapter.
    pub fn as_base(&self) -> BaseModel {
        BaseModel { path: self.dir.canonicalize().unwrap_or_else(|_| self.dir.clone()), digest: self.digest.clone() }
    }
    /// Blueprint from which the model was built.
    pub fn blueprint(&self) -> Blueprint {
        let count = |ids: &Option<Vec<String>>| ids.as_ref().map_or(0, Vec::len);
        let counts = TableSizes { items: count(&self.items), users: count(&self.users) };
        let (config, base) = (self.config.clone(), self.base.clone());
        Blueprint { config, counts, encoders: self.encoders.clone(), base, user_encoder: self.user_encoder.clone() }
    }
    /// Builds the model with all parameters frozen.
    pub fn build(&self, device: &Device) -> Result<Recommender> {
        let blueprint = self.blueprint();
        let frozen = Action { origin: Origin::Source, train: false, lr: None };
        let actions: Resolved =
            blueprint.declare().map_err(|e| self.own_fault(e))?.into_iter().map(|s| (s.name, frozen)).collect();
        blueprint.build(device, &actions, Some(&self.weights)).map_err(|e| self.own_fault(e))
    }
    /// Settings found wrong are the model's own, not the user's: its files do not fit each other. (But a model with a custom user
    /// encoder that is opened without its builder is not damaged.)
    fn own_fault(&self, e: Error) -> Error {
        match e {
            e if self.config.user.kind == UserKind::Custom && self.user_encoder.is_none() => e,
            Error::Config { key, message } => Error::model(&self.dir, format!("damaged: {key}: {message}; {REMAKE}")),
            e => e,
        }
    }
}

/// Where the base of an adapter's folder may be: its path when the adapter was written, and its path relative to the folder.
fn base_paths(dir: &Path, manifest: &Manifest, base: &BaseModel) -> Vec<PathBuf> {
    let relative = manifest.facts["relative"].as_str().map(|r| dir.join(r));
    [Some(base.path.clone()), relative].into_iter().flatten().collect()
}

/// A model's folder, the folder of its base, of that one's base, and so on.
///
/// # Errors
/// [`Error::Model`] when a folder is its own base, which would be opened without end.
pub fn base_chain(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    follow_bases(dir, &mut vec![], &mut all)?;
    Ok(all)
}

/// `above`: the adapters on the way to `dir`; `all`: every folder found so far.
fn follow_bases(dir: &Path, above: &mut Vec<PathBuf>, all: &mut Vec<PathBuf>) -> Result<()> {
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
    let manifest = Manifest::read(&here, adapter_folder::KIND, adapter_folder::FORMAT, REMAKE);
    let (Ok(manifest), Ok(base)) = (manifest, base_of(&here)) else { return Ok(()) };
    above.push(here.clone());
    for path in base_paths(&here, &manifest, &base) {
        follow_bases(&path, above, all)?;
    }
    above.pop();
    Ok(())
}

/// Finds the base of an adapter's folder: at `given`, or at the path recorded in the manifest, absolute or relative to
/// the folder.
pub fn find_base(dir: &Path, given: Option<&Path>) -> Result<ModelFolder> {
    let manifest = Manifest::read(dir, adapter_folder::KIND, adapter_folder::FORMAT, REMAKE)?;
    let base = base_of(dir)?;
    base_chain(dir)?;
    let places = match given {
        Some(g) => vec![g.to_path_buf()],
        None => base_paths(dir, &manifest, &base),
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
