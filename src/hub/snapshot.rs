//! Download of a repository's snapshot into the cache: small files, then weights, then `refs/<revision>`.

use super::cache::Cached;
use super::card::Guard;
use super::content::damage;
use super::folder::{CONFIG, CONVERT, EXTRAS, INDEX, ModelFolder, Origin, TO_FAST, TOKENIZER, WEIGHTS, shards};
use super::layout;
use super::listing::{Listing, RemoteFile, list, repository};
use super::name::{ModelName, is_commit};
use super::options::HubOptions;
use super::transfer::Transfer;
use super::verify;
use crate::error::{Error, Result};
use crate::fsio;
use crate::terminal;
use std::fs::{File, TryLockError};
use std::path::Path;

/// Result of a pull.
#[derive(Debug)]
pub struct Pulled {
    /// Folder of the complete model.
    pub folder: ModelFolder,
    /// Names of the downloaded files; empty if the cache was complete.
    pub downloaded: Vec<String>,
    /// Total size of the downloaded files in bytes.
    pub bytes: u64,
    /// Notes for the user, for example that the model has no `tokenizer.json`.
    pub notes: Vec<String>,
}

/// Updates the cache from the repository and revision in `source`; `name` is the requested model name.
pub(super) fn fetch_snapshot(name: &str, source: &ModelName, guard: &Guard, options: &HubOptions) -> Result<Pulled> {
    let (id, revision) = (source.id.as_str(), source.revision.as_deref().unwrap_or("main"));
    if is_commit(revision)
        && let Some(cached) = Cached::find(&options.cache, id, revision)?.filter(Cached::is_whole)
    {
        guard.check(&cached.dir)?;
        let folder = cached.open(name)?;
        if options.offline || is_undamaged(&folder)? {
            return Ok(Pulled { folder, downloaded: Vec::new(), bytes: 0, notes: Vec::new() });
        }
    }
    if options.offline {
        return Err(Error::Hub(format!(
            "offline (HF_HUB_OFFLINE is set): `{source}` cannot be fetched; unset it and run `morec models pull {name}`, \
             or copy the model's files into {}",
            options.models.join("<name>").display()
        )));
    }
    let listing = list(options, &repository(options, id, revision)?, source)?;
    let plan = plan(source, &listing)?;
    // All files are taken from the listed commit, even if the branch is updated meanwhile.
    let repo = repository(options, id, &listing.commit)?;
    let _lock = lock(options, id)?;
    let snapshot = layout::snapshot(&options.cache, id, &listing.commit);
    let mut work = Transfer::new(options, id, guard, repo, snapshot);
    work.check_space(&plan)?;
    for file in &plan {
        work.bring(file)?;
    }
    if plan.last().is_some_and(|f| f.name == INDEX) {
        let index = work.snapshot.join(INDEX);
        // An invalid index is removed, so that the snapshot does not count as partly downloaded.
        let shards = shard_files(source, &listing, &index).inspect_err(|_| drop(std::fs::remove_file(&index)))?;
        work.check_space(&shards)?;
        for file in &shards {
            work.bring(file)?;
        }
    }
    let origin = Origin::Hub { id: id.into(), commit: listing.commit.clone() };
    let folder = ModelFolder::open(name, &work.snapshot, origin)?;
    let notes = verified(&folder)?;
    if listing.commit != revision {
        let path = layout::repo_dir(&options.cache, id).join("refs").join(revision);
        if std::fs::read_to_string(&path).ok().is_none_or(|c| c.trim() != listing.commit) {
            fsio::write_bytes(&path, listing.commit.as_bytes())?;
        }
    }
    Ok(Pulled { folder, downloaded: work.downloaded, bytes: work.bytes, notes })
}

/// Files to download, with the weights or their index last.
fn plan(source: &ModelName, listing: &Listing) -> Result<Vec<RemoteFile>> {
    let find = |name: &str| listing.files.iter().find(|f| f.name == name).cloned();
    let none = |what: &str| Error::Hub(format!("{source}: {what}"));
    let weights = find(WEIGHTS).or_else(|| find(INDEX));
    let Some(weights) = weights else {
        let pickled = listing.files.iter().any(|f| f.name.starts_with("pytorch_model") && f.name.ends_with(".bin"));
        let nothing = format!("has neither {WEIGHTS} nor {INDEX}; it cannot be used here");
        return Err(none(if pickled { CONVERT } else { &nothing }));
    };
    let config = find(CONFIG).ok_or_else(|| none("has no config.json, so its architecture is unknown"))?;
    let extras = EXTRAS.iter().filter_map(|name| find(name));
    Ok([config].into_iter().chain(extras).chain([weights]).collect())
}

fn shard_files(source: &ModelName, listing: &Listing, index: &Path) -> Result<Vec<RemoteFile>> {
    let find = |name: &String| {
        let file = listing.files.iter().find(|f| f.name == *name).cloned();
        file.ok_or_else(|| Error::Hub(format!("{source}: its index names {name}, which the repository does not have")))
    };
    shards(index)?.iter().map(find).collect()
}

/// Whether all files can be parsed, and those whose blob is named by a SHA-256 have this digest.
fn is_undamaged(folder: &ModelFolder) -> Result<bool> {
    for (name, path) in folder.files().into_iter().map(|n| (n.clone(), folder.dir.join(n))) {
        if damage(&path, &name)?.is_some() {
            return Ok(false);
        }
        if let Some(expected) = layout::named_digest(&path)
            && fsio::sha256_file(&path)? != expected
        {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Checks that the files of a snapshot are consistent; defects that do not prevent use are returned as notes.
///
/// # Errors
/// [`Error::Hub`] when the weights contradict their index or cannot be loaded. A contradicting index is removed, so
/// that the snapshot counts as incomplete.
fn verified(folder: &ModelFolder) -> Result<Vec<String>> {
    let (weights, mut notes) = verify::structure(folder)?;
    if !weights.is_empty() {
        if let Some(index) = folder.index.as_ref().filter(|_| weights.iter().any(|p| p.file == INDEX)) {
            std::fs::remove_file(index).map_err(Error::io(index))?;
        }
        let all: Vec<String> = weights.iter().map(ToString::to_string).collect();
        return Err(Error::Hub(format!("{}: the repository cannot be used: {}", folder.name, all.join("; "))));
    }
    let here = |n: &str| folder.dir.join(n).is_file();
    if !here(TOKENIZER) && (here("vocab.txt") || here("vocab.json")) {
        notes.push(format!("there is a vocabulary but no {TOKENIZER}, so texts cannot be read; {TO_FAST}"));
    }
    Ok(notes)
}

/// Locks a repository for one pull at a time; waits while another process holds the lock.
fn lock(options: &HubOptions, id: &str) -> Result<File> {
    let folder = layout::repo_dir(&options.cache, id);
    let dir = options.cache.join(".locks").join(folder.file_name().unwrap_or_default());
    std::fs::create_dir_all(&dir).map_err(|e| {
        let m = format!("{e}; set HF_HOME or HF_HUB_CACHE to a folder that can be written");
        Error::io(&dir)(std::io::Error::new(e.kind(), m))
    })?;
    let path = dir.join("morec.lock");
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            if options.progress {
                terminal::message(&format!("{id}: another process is fetching it; waiting"));
            }
            file.lock().map_err(Error::io(&path))?;
        }
        Err(TryLockError::Error(e)) => return Err(Error::io(&path)(e)),
    }
    Ok(file)
}
