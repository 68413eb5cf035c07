//! Lookup of a model name: local folders, embedded models, the cache, then the hub.

use super::cache::Cached;
use super::card::{Card, Guard};
use super::embedded;
use super::folder::{ModelFolder, Origin, looks_like_model, missing};
use super::name::ModelName;
use super::options::HubOptions;
use super::snapshot::fetch_snapshot;
use super::target::{Target, from_card, target};
use crate::error::{Error, Result};
use std::path::Path;

/// Finds the model `name`, and downloads it only if no usable local copy exists.
///
/// # Errors
/// [`Error::Usage`] for a malformed name; [`Error::Model`] for a folder that is incomplete or differs from its card;
/// [`Error::Hub`] as in [`pull`](super::pull()), and for a model without local copy while offline.
pub fn resolve(name: &str, options: &HubOptions) -> Result<ModelFolder> {
    let path = Path::new(name);
    if let Some(found) = at(name, path, Origin::Folder, options)? {
        return Ok(found);
    }
    let parsed = match ModelName::parse(name) {
        Err(_) if path.is_dir() => return ModelFolder::open(name, path, Origin::Folder),
        parsed => parsed?,
    };
    if let (Some(card_name), None) = (parsed.card_name(), &parsed.revision)
        && let Some(found) = at(name, &options.models.join(card_name), Origin::Project, options)?
    {
        return Ok(found);
    }
    if let (Some(card_name), None) = (parsed.card_name(), &parsed.revision)
        && let Some(found) = embedded::unpacked(&options.cache, card_name)?
    {
        return Ok(found);
    }
    remote(name, &target(&parsed, options)?, options)
}

/// Model of a folder: its own files, or the repository that its card names; `None` if it has neither.
fn at(name: &str, dir: &Path, origin: Origin, options: &HubOptions) -> Result<Option<ModelFolder>> {
    if !dir.is_dir() {
        return Ok(None);
    }
    let card = Card::read(dir)?;
    let has_hub = card.as_ref().is_some_and(|c| c.hub.is_some());
    // Complete local files take precedence over the card's repository; incomplete ones do not.
    if looks_like_model(dir) && (!has_hub || missing(dir)?.is_empty()) {
        let folder = ModelFolder::open(name, dir, origin)?;
        if let Some(card) = card.filter(|_| options.check_digests) {
            Guard { sha256: card.sha256 }.check(dir)?;
        }
        return Ok(Some(folder));
    }
    card.map(|card| remote(name, &from_card(dir, card, None)?, options)).transpose()
}

fn remote(name: &str, wanted: &Target, options: &HubOptions) -> Result<ModelFolder> {
    let (id, revision) = (&wanted.source.id, wanted.source.revision.as_deref().unwrap_or("main"));
    let cached = Cached::find(&options.cache, id, revision)?;
    let usable = cached.as_ref().filter(|c| c.missing.is_empty());
    let with_card = |mut folder: ModelFolder| {
        folder.card = wanted.card.clone();
        folder
    };
    if let Some(cached) = usable.filter(|c| options.offline || c.is_whole()) {
        if options.check_digests {
            wanted.guard.check(&cached.dir)?;
        }
        return cached.open(name).map(with_card);
    }
    if options.offline {
        let lack = match &cached {
            Some(c) => format!("is incomplete in the cache: missing {}", c.missing.join(", ")),
            None => {
                "is not in the cache: it needs config.json, model.safetensors and, for texts, tokenizer.json".into()
            }
        };
        return Err(Error::Hub(format!(
            "offline (HF_HUB_OFFLINE is set): `{}` is not in {}, and {lack} ({}); unset HF_HUB_OFFLINE and run `morec models \
             pull {name}`, or copy the model's files into a folder and give its path",
            wanted.source,
            options.models.display(),
            options.cache.display()
        )));
    }
    match (fetch_snapshot(name, &wanted.source, &wanted.guard, options), usable) {
        (Ok(pulled), _) => Ok(with_card(pulled.folder)),
        // The hub fails and the snapshot has neither tokenizer nor preprocessor: its weights may still be sufficient.
        (Err(Error::Hub(_)), Some(cached)) => cached.open(name).map(with_card),
        (Err(e), _) => Err(e),
    }
}
