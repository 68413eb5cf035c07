//! Paths of the Hugging Face cache: `models--owner--name/{blobs,refs,snapshots}`, the layout used by the Python
//! libraries.

use hf_hub::{Cache, CacheRepo, Repo, RepoType};
use std::path::{Path, PathBuf};

fn cache_repo(cache: &Path, id: &str) -> CacheRepo {
    Cache::new(cache.into()).repo(Repo::model(id.into()))
}

pub(super) fn snapshot(cache: &Path, id: &str, commit: &str) -> PathBuf {
    cache_repo(cache, id).pointer_path(commit)
}

pub(super) fn blob(cache: &Path, id: &str, etag: &str) -> PathBuf {
    cache_repo(cache, id).blob_path(etag)
}

/// Expected SHA-256 of a snapshot's file, taken from the name of the blob that it links to; `None` if that name is not
/// a SHA-256.
pub(super) fn named_digest(path: &Path) -> Option<String> {
    let target = std::fs::read_link(path).ok()?;
    let name = target.file_name()?.to_str()?;
    (name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())).then(|| name.to_lowercase())
}

pub(super) fn repo_dir(cache: &Path, id: &str) -> PathBuf {
    cache.join(Repo::new(id.into(), RepoType::Model).folder_name())
}
