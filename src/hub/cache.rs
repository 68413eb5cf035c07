//! The models of the Hugging Face cache, as far as they are there: no request is made.

use super::card::subfolders;
use super::folder::{ModelFolder, Origin, PREPROCESSOR, TOKENIZER, missing};
use super::layout::{repo_dir, snapshot};
use super::name::{check_id, is_safe_token};
use super::options::HubOptions;
use crate::error::Result;
use std::path::{Path, PathBuf};

/// A snapshot of the cache.
#[derive(Debug, Clone)]
pub struct Cached {
    /// Repository id.
    pub id: String,
    /// The branch, tag or commit that leads to it.
    pub revision: String,
    /// Its commit.
    pub commit: String,
    /// Its folder.
    pub dir: PathBuf,
    /// Required files that are not there; empty when it can be used.
    pub missing: Vec<String>,
}

impl Cached {
    /// Looks a revision up, without a request; `None` when the cache knows nothing of it.
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

    /// True when nothing is missing and it has what turns inputs into tensors, so that asking the hub is pointless.
    pub fn is_whole(&self) -> bool {
        self.missing.is_empty() && [TOKENIZER, PREPROCESSOR].iter().any(|n| self.dir.join(n).is_file())
    }

    /// The folder, as found without a request.
    ///
    /// # Errors
    /// As [`ModelFolder::open`].
    pub fn open(&self, name: &str) -> Result<ModelFolder> {
        ModelFolder::open(name, &self.dir, Origin::Cache { id: self.id.clone(), commit: self.commit.clone() })
    }
}

/// Every model of the cache by its `refs`, in name order; what is damaged is left out.
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
