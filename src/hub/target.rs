//! Maps a model name to a hub repository.

use super::card::{Card, Guard, cards};
use super::name::ModelName;
use super::options::HubOptions;
use crate::error::{Error, Result};
use std::path::Path;

/// Hub repository and the expected digests of its files.
pub(super) struct Target {
    /// Repository id and revision; the revision is always set.
    pub source: ModelName,
    pub guard: Guard,
    pub card: Option<Card>,
}

/// Repository of a model name: the one named by its card, or the name itself as repository id.
pub(super) fn target(name: &ModelName, options: &HubOptions) -> Result<Target> {
    if let Some(card_name) = name.card_name() {
        let dir = options.models.join(card_name);
        if let Some(card) = Card::read(&dir)?.or_else(|| Card::built_in(card_name)) {
            return from_card(&dir, card, name.revision.as_deref());
        }
    }
    let revision = name.revision.clone().unwrap_or_else(|| "main".into());
    let same = |c: &Card| c.hub.as_ref().is_some_and(|h| h.id == name.id && h.revision == revision);
    let card = cards(&options.models)?.into_iter().find(same);
    let guard = card.as_ref().map(|c| c.guard(&revision)).unwrap_or_default();
    Ok(Target { source: ModelName { id: name.id.clone(), revision: Some(revision) }, guard, card })
}

/// Repository named by a card, at `revision` or else the card's; `dir` is used in error messages only.
pub(super) fn from_card(dir: &Path, card: Card, revision: Option<&str>) -> Result<Target> {
    let Some(hub) = &card.hub else {
        let m = format!("its files are not here, and its card gives no hub repository; they come from {}", card.origin);
        return Err(Error::model(dir, m));
    };
    let revision = revision.unwrap_or(&hub.revision).to_string();
    let source = ModelName { id: hub.id.clone(), revision: Some(revision.clone()) };
    Ok(Target { guard: card.guard(&revision), source, card: Some(card) })
}
