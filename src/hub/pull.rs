//! Fetching a model that was asked for by name.

use super::embedded;
use super::name::ModelName;
use super::options::HubOptions;
use super::resolve::resolve;
use super::snapshot::{Pulled, fetch_snapshot};
use super::target::target;
use crate::error::Result;

/// Brings the cache up to date with the hub: one request for the listing, then what is missing or damaged.
///
/// A full commit id whose snapshot is whole and undamaged needs no request. Several processes may pull at the same time.
///
/// # Errors
/// `Error::Usage` for a malformed name; `Error::Hub` when offline, unreachable, refused, without safetensors, or
/// when a transfer breaks off or arrives damaged; `Error::Model` when a card gives no repository; `Error::Io`.
pub fn pull(name: &str, options: &HubOptions) -> Result<Pulled> {
    if embedded::has(name) {
        let note = "comes inside the program; nothing to download".to_string();
        let folder = resolve(name, options)?;
        return Ok(Pulled { folder, downloaded: Vec::new(), bytes: 0, notes: vec![note] });
    }
    let wanted = target(&ModelName::parse(name)?, options)?;
    fetch_snapshot(name, &wanted.source, &wanted.guard, options)
}
