//! Listing of a hub repository at a revision, by one request.

use super::name::{ModelName, is_safe_token};
use super::options::HubOptions;
use crate::error::{Error, Result};
use hf_hub::api::sync::{ApiBuilder, ApiRepo};
use hf_hub::{Cache, Repo, RepoType};
use serde::Deserialize;

/// Files of a repository at one commit.
#[derive(Debug)]
pub(super) struct Listing {
    pub commit: String,
    pub files: Vec<RemoteFile>,
}

/// File of a repository; properties that the server does not report are `None`.
#[derive(Debug, Clone)]
pub(super) struct RemoteFile {
    pub name: String,
    pub bytes: Option<u64>,
    /// SHA-256 in lower-case hex, reported for files in Git LFS such as weights.
    pub sha256: Option<String>,
    /// Name of the file's blob in the cache: its SHA-256, else its Git object id.
    pub blob: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    blob_id: Option<String>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

/// Creates the `hf-hub` API handle of a repository at a revision.
pub(super) fn repository(options: &HubOptions, id: &str, revision: &str) -> Result<ApiRepo> {
    let mut builder = ApiBuilder::from_cache(Cache::new(options.cache.clone()))
        .with_progress(false)
        .with_token(options.token.as_ref().map(|t| t.reveal().to_string()));
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.clone());
    }
    let api = builder.build().map_err(|e| Error::Hub(format!("{id}: {e}")))?;
    Ok(api.repo(Repo::with_revision(id.into(), RepoType::Model, revision.into())))
}

/// Requests the commit id and the files with sizes and digests.
///
/// # Errors
/// [`Error::Hub`] when the hub is unreachable, refuses the request or sends an invalid listing.
pub(super) fn list(options: &HubOptions, repo: &ApiRepo, name: &ModelName) -> Result<Listing> {
    let request = repo
        .info_request()
        .query("blobs", "true")
        .config()
        .http_status_as_error(false)
        .timeout_global(Some(options.timeout * 2))
        .timeout_connect(Some(options.timeout))
        .build();
    let mut response = request.call().map_err(|e| Error::Hub(unreachable(name, &e.to_string())))?;
    let status = response.status().as_u16();
    if status != 200 {
        return Err(Error::Hub(refused(&format!("model `{name}`"), status, options)));
    }
    let body = response.body_mut().with_config().limit(64 << 20).read_to_vec();
    let body = body.map_err(|e| Error::Hub(unreachable(name, &e.to_string())))?;
    let reply: Reply = serde_json::from_slice(&body).map_err(|e| {
        Error::Hub(format!("{name}: the answer is not a repository listing ({e}); is HF_ENDPOINT a model hub?"))
    })?;
    if !is_safe_token(&reply.sha) {
        return Err(Error::Hub(format!("{name}: `{}` is not a commit; not used", reply.sha.escape_debug())));
    }
    let files = reply.siblings.into_iter().map(remote).collect();
    Ok(Listing { commit: reply.sha, files })
}

fn remote(sibling: Sibling) -> RemoteFile {
    let hex64 = |s: &String| s.len() == 64 && s.bytes().all(|b| b.is_ascii_hexdigit());
    let (lfs_size, sha256) = sibling.lfs.map_or((None, None), |l| (l.size, l.sha256));
    let sha256 = sha256.filter(hex64).map(|s| s.to_lowercase());
    let blob = sha256.clone().or(sibling.blob_id).filter(|b| is_safe_token(b));
    RemoteFile { name: sibling.rfilename, bytes: lfs_size.or(sibling.size), sha256, blob }
}

fn unreachable(name: &ModelName, why: &str) -> String {
    format!(
        "{name}: cannot reach the hub ({why}); check the network and HF_ENDPOINT, or put the model's files into a \
         folder and give its path"
    )
}

/// Error message that explains an HTTP status other than success and its remedy.
pub(super) fn refused(what: &str, status: u16, options: &HubOptions) -> String {
    let token = options.token.is_some();
    let why = match status {
        401 | 403 if token => "the token is not accepted or has no access: a gated model must be agreed to on its page",
        401 | 403 => "it does not exist, is private or gated: set HF_TOKEN (or put the token into HF_HOME/token)",
        404 => "there is no such model, revision or file; check the spelling",
        429 => "too many requests; wait a little",
        500..=599 => "the hub has a problem; try again later",
        _ => "unexpected; is HF_ENDPOINT a model hub?",
    };
    format!("{what}: HTTP {status}: {why}")
}
