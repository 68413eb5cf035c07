//! Transfer of one snapshot's files: intact files are reused, missing or damaged ones are downloaded, and each is
//! linked into the snapshot only after its checks.

use super::card::Guard;
use super::content::damage;
use super::disk::disk_free;
use super::fetch::{Job, client, fetch};
use super::layout;
use super::listing::RemoteFile;
use super::options::HubOptions;
use crate::error::{Error, Result};
use crate::fsio;
use hf_hub::api::sync::ApiRepo;
use std::path::{Path, PathBuf};

/// Transfer of the files of one snapshot.
pub(super) struct Transfer<'a> {
    options: &'a HubOptions,
    id: &'a str,
    guard: &'a Guard,
    repo: ApiRepo,
    /// Folder `snapshots/<commit>`.
    pub snapshot: PathBuf,
    /// Names of the downloaded files.
    pub downloaded: Vec<String>,
    /// Total size of the downloaded files in bytes.
    pub bytes: u64,
}

impl<'a> Transfer<'a> {
    pub fn new(options: &'a HubOptions, id: &'a str, guard: &'a Guard, repo: ApiRepo, snapshot: PathBuf) -> Self {
        Self { options, id, guard, repo, snapshot, downloaded: Vec::new(), bytes: 0 }
    }

    pub fn check_space(&self, plan: &[RemoteFile]) -> Result<()> {
        let needed: u64 = plan.iter().filter(|f| !self.snapshot.join(&f.name).exists()).filter_map(|f| f.bytes).sum();
        match disk_free(&self.options.cache) {
            Some(free) if free < needed => Err(Error::Hub(format!(
                "{}: needs {needed} bytes, {} has {free} left; free some space or set HF_HUB_CACHE to another disk",
                self.id,
                self.options.cache.display()
            ))),
            _ => Ok(()),
        }
    }

    /// Rejects a file that matches the hub's digest but cannot be parsed, because the repository's own file is damaged.
    fn readable(&self, path: &Path, name: &str) -> Result<()> {
        match damage(path, name)? {
            None => Ok(()),
            Some(why) => Err(Error::Hub(format!("{}: {name}: {why}; the repository has a damaged file", self.id))),
        }
    }

    /// Creates `snapshots/<commit>/<name>` from a blob in the cache or by a download.
    pub fn bring(&mut self, file: &RemoteFile) -> Result<()> {
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
        // If the listing gives no blob name, the file is downloaded each time and its blob is named by its SHA-256.
        let known = file.blob.as_deref();
        let blob = |name: &str| layout::blob(&self.options.cache, self.id, name);
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
        install(&path, &link).map_err(Error::io(&link))
    }
}

/// Creates a relative symbolic link, so that the cache can be moved; a hard link or a copy on systems other than Unix.
fn install(blob: &Path, link: &Path) -> std::io::Result<()> {
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
