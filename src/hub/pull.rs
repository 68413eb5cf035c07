//! A repository's files into the cache: small ones first, weights last, `refs/<revision>` at the very end.

use super::card::Guard;
use super::content::damage;
use super::fetch::{Job, client, fetch};
use super::folder::{CONFIG, CONVERT, EXTRAS, INDEX, Origin, TO_FAST, TOKENIZER, WEIGHTS, shards};
use super::listing::{Listing, RemoteFile, list, repository};
use super::name::{ModelName, is_commit};
use super::resolve::target;
use super::{Cached, HubOptions, ModelFolder, cache, verify};
use crate::error::{Error, Result};
use crate::fsio;
use crate::terminal;
use hf_hub::api::sync::ApiRepo;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};

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

/// Brings the cache up to date with the hub: one request for the listing, then what is missing or damaged.
///
/// A full commit id whose snapshot is whole and undamaged needs no request. Several processes may pull at the same time.
///
/// # Errors
/// [`Error::Usage`] for a malformed name; [`Error::Hub`] when offline, unreachable, refused, without safetensors, or
/// when a transfer breaks off or arrives damaged; [`Error::Model`] when a card gives no repository; [`Error::Io`].
pub fn pull(name: &str, options: &HubOptions) -> Result<Pulled> {
    if super::embedded::has(name) {
        let note = "comes inside the program; nothing to download".to_string();
        let folder = super::resolve(name, options)?;
        return Ok(Pulled { folder, downloaded: Vec::new(), bytes: 0, notes: vec![note] });
    }
    let wanted = target(&ModelName::parse(name)?, options)?;
    fetch_snapshot(name, &wanted.source, &wanted.guard, options)
}

/// [`pull`] for a repository that is already known: `source` carries id and revision.
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
    let snapshot = cache::snapshot(&options.cache, id, &listing.commit);
    let mut work = Work { options, id, guard, repo, snapshot, downloaded: Vec::new(), bytes: 0 };
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
        let path = cache::repo_dir(&options.cache, id).join("refs").join(revision);
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
        if let Some(expected) = cache::named_digest(&path)
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
    let folder = cache::repo_dir(&options.cache, id);
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

struct Work<'a> {
    options: &'a HubOptions,
    id: &'a str,
    guard: &'a Guard,
    repo: ApiRepo,
    snapshot: PathBuf,
    downloaded: Vec<String>,
    bytes: u64,
}

impl Work<'_> {
    fn check_space(&self, plan: &[RemoteFile]) -> Result<()> {
        let needed: u64 = plan.iter().filter(|f| !self.snapshot.join(&f.name).exists()).filter_map(|f| f.bytes).sum();
        match super::disk_free(&self.options.cache) {
            Some(free) if free < needed => Err(Error::Hub(format!(
                "{}: needs {needed} bytes, {} has {free} left; free some space or set HF_HUB_CACHE to another disk",
                self.id,
                self.options.cache.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses a file that the hub's digest agrees with and that is damaged all the same: the repository itself is.
    fn readable(&self, path: &Path, name: &str) -> Result<()> {
        match damage(path, name)? {
            None => Ok(()),
            Some(why) => Err(Error::Hub(format!("{}: {name}: {why}; the repository has a damaged file", self.id))),
        }
    }

    /// Makes `snapshots/<commit>/<name>` exist, from a blob that is here or from the hub.
    fn bring(&mut self, file: &RemoteFile) -> Result<()> {
        let link = self.snapshot.join(&file.name);
        let card = self.guard.sha256.get(&file.name);
        if let (Some(listed), Some(card)) = (&file.sha256, card)
            && listed != card
        {
            return Err(Error::Hub(format!(
                "{}: {}: the hub's file has SHA-256 {listed}, the model's card says {card}; the repository has changed: \
                 name a revision, or correct the card",
                self.id, file.name
            )));
        }
        let sha256 = file.sha256.as_ref().or(card);
        let is_right = |path: &Path| -> Result<bool> {
            let right_size = std::fs::metadata(path).is_ok_and(|m| file.bytes.is_none_or(|b| b == m.len()));
            match sha256.filter(|_| right_size) {
                Some(expected) => Ok(fsio::sha256_file(path)? == *expected),
                None => Ok(right_size && damage(path, &file.name)?.is_none()),
            }
        };
        if is_right(&link)? {
            return self.readable(&link, &file.name);
        }
        // Without a name for its content a file is fetched anew each time and named by its own digest.
        let known = file.blob.as_deref();
        let blob = |name: &str| cache::blob(&self.options.cache, self.id, name);
        let mut path = blob(known.unwrap_or(&format!("new-{}", std::process::id())));
        let dir = path.parent().unwrap_or(&self.options.cache);
        std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
        if known.is_none() || !is_right(&path)? {
            let job = Job {
                url: self.repo.url(&file.name),
                name: &file.name,
                bytes: file.bytes,
                sha256: sha256.map(String::as_str),
                target: path.clone(),
                resumable: known.is_some(),
            };
            fetch(&client(self.options), self.options, &job)?;
            self.downloaded.push(file.name.clone());
            self.bytes += std::fs::metadata(&path).map_or(0, |m| m.len());
            if known.is_none() {
                let named = blob(&fsio::sha256_file(&path)?);
                std::fs::rename(&path, &named).map_err(Error::io(&named))?;
                path = named;
            }
        }
        self.readable(&path, &file.name)?;
        std::fs::create_dir_all(&self.snapshot).map_err(Error::io(&self.snapshot))?;
        std::fs::remove_file(&link).ok();
        place(&path, &link).map_err(Error::io(&link))
    }
}

/// A relative link, so that the cache can be moved; a hard link or a copy where there are no symbolic ones.
fn place(blob: &Path, link: &Path) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let name = blob.file_name().unwrap_or_default();
        std::os::unix::fs::symlink(Path::new("../../blobs").join(name), link)
    }
    #[cfg(not(unix))]
    {
        std::fs::hard_link(blob, link).or_else(|_| std::fs::copy(blob, link).map(|_| ()))
    }
}
