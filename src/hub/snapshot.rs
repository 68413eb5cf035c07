//! A repository's files into the cache: small ones first, weights last, `refs/<revision>` at the very end.

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

/// What a pull did.
#[derive(Debug)]
pub struct Pulled {
    /// The folder, ready for use.
    pub folder: ModelFolder,
    /// Names of the files that were transferred; empty when everything was there.
    pub downloaded: Vec<String>,
    /// Their size in bytes.
    pub bytes: u64,
    /// Things worth knowing, for example that there is no `tokenizer.json`.
    pub notes: Vec<String>,
}

/// Brings the cache up to date with a repository: `source` carries id and revision.
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
    // Every file comes from the commit that was listed, even when the branch moves on meanwhile.
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
        // An index that cannot be followed must not make the snapshot look begun.
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

/// The files to have, weights (or their index) last.
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

/// Reads the files whose SHA-256 the cache knows, and the headers of the others.
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

/// Checks the files of a snapshot against each other; what does not stop a use is a note.
///
/// # Errors
/// [`Error::Hub`] when the weights are not what their index says or cannot be loaded. The index is then taken out of the
/// snapshot, which counts as incomplete.
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

/// One pull at a time a repository; another process waits.
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
