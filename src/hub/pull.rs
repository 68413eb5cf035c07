//! Download of a model by name.

use super::embedded;
use super::name::ModelName;
use super::options::HubOptions;
use super::resolve::resolve;
use super::snapshot::{Pulled, fetch_snapshot};
use super::target::target;
use crate::error::Result;

/// Updates the cache from the hub: one request for the listing, then downloads of missing or damaged files.
///
/// No request is made for a full commit id whose snapshot is complete and undamaged, or for an embedded model. Several
/// processes may pull at the same time.
///
/// # Errors
/// `Error::Usage` for a malformed name; `Error::Hub` when offline, when the hub is unreachable or refuses the request,
/// when the repository has no safetensors, or when a download is interrupted or damaged; `Error::Model` when the card
/// names no repository; `Error::Io`.
pub fn pull(name: &str, options: &HubOptions) -> Result<Pulled> {
    if embedded::has(name) {
        let note = "comes inside the program; nothing to download".to_string();
        let folder = resolve(name, options)?;
        return Ok(Pulled { folder, downloaded: Vec::new(), bytes: 0, notes: vec![note] });
    }
    let wanted = target(&ModelName::parse(name)?, options)?;
    fetch_snapshot(name, &wanted.source, &wanted.guard, options)
}
