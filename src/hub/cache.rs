//! Models in the local Hugging Face cache. Nothing here makes a network request.

use super::card::subfolders;
use super::folder::{ModelFolder, Origin, PREPROCESSOR, TOKENIZER, missing};
use super::layout::{repo_dir, snapshot};
use super::name::{check_id, is_safe_token};
use super::options::HubOptions;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// Snapshot of a model repository in the Hugging Face cache.
#[derive(Debug, Clone)]
pub struct Cached {
    /// Repository id.
    pub id: String,
    /// Branch, tag or commit by which the snapshot was found.
    pub revision: String,
    /// Commit id of the snapshot.
    pub commit: String,
    /// Folder of the snapshot.
    pub dir: PathBuf,
    /// Names of required files that the snapshot lacks; empty when the model can be used.
    pub missing: Vec<String>,
}

impl Cached {
    /// Finds the snapshot of a revision without a network request; `None` when the cache has none.
    ///
    /// # Errors
    /// `Error::Model` when the snapshot's shard index is malformed.
    pub fn find(cache: &Path, id: &str, revision: &str) -> Result<Option<Self>> {
        let commit = std::fs::read_to_string(repo_dir(cache, id).join("refs").join(revision));
        let commit = commit.map_or_else(|_| revision.to_string(), |c| c.trim().to_string());
        if !is_safe_token(&commit) {
            return Ok(None);
        }
        let dir = snapshot(cache, id, &commit);
        if !dir.is_dir() {
            return Ok(None);
        }
        let missing = missing(&dir)?;
        Ok(Some(Self { id: id.into(), revision: revision.into(), commit, dir, missing }))
    }

    /// Whether all required files and a tokenizer or preprocessor configuration exist, so that no request is needed.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && [TOKENIZER, PREPROCESSOR].iter().any(|n| self.dir.join(n).is_file())
    }

    /// Opens the snapshot as a model folder without a network request; `name` is the requested model name.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn open(&self, name: &str) -> Result<ModelFolder> {
        ModelFolder::open(name, &self.dir, Origin::Cache { id: self.id.clone(), commit: self.commit.clone() })
    }
}

/// Lists the snapshots to which the cache's `refs` point, in name order; damaged ones are left out.
pub fn cached_models(options: &HubOptions) -> Vec<Cached> {
    let mut found = Vec::new();
    for folder in subfolders(&options.cache) {
        let Some(id) = folder.strip_prefix("models--").map(|n| n.replacen("--", "/", 1)) else { continue };
        if check_id(&id).is_err() {
            continue;
        }
        let refs = std::fs::read_dir(options.cache.join(&folder).join("refs")).into_iter().flatten().flatten();
        let mut names: Vec<String> = refs.filter_map(|e| e.file_name().into_string().ok()).collect();
        names.retain(|n| !n.starts_with('.'));
        names.sort();
        found.extend(names.iter().filter_map(|r| Cached::find(&options.cache, &id, r).ok().flatten()));
    }
    found
}
