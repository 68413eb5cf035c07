//! Options of the model hub, read from the environment variables that the Hugging Face Python libraries use.

use super::private_temp::private_folders;
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// Access token of the hub; its value never appears in debug output or error messages.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Creates a token from its text.
    ///
    /// # Errors
    /// [`Error::Config`] when the text cannot be sent in an HTTP header (empty, spaces, line ends, non-ASCII
    /// characters).
    pub fn new(text: &str) -> Result<Self> {
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(Error::config("HF_TOKEN", "has characters that no token has; check for quotes or line ends"));
        }
        Ok(Self(text.into()))
    }
    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(set)")
    }
}

/// Settings of [`resolve`](super::resolve()) and [`pull`](super::pull()).
#[derive(Debug, Clone)]
pub struct HubOptions {
    /// Folder of the project's models and cards.
    pub models: PathBuf,
    /// Folder of the Hugging Face cache. Downloads write nothing outside it.
    pub cache: PathBuf,
    /// Base URL of the hub; `None`: the default of the `hf-hub` crate.
    pub endpoint: Option<String>,
    /// Access token, if any.
    pub token: Option<Token>,
    /// Whether to make no network request.
    pub offline: bool,
    /// Whether to report progress on stderr: a bar on a terminal, plain lines otherwise.
    pub progress: bool,
    /// Timeout of a connection attempt, of a response, and of each read of a body.
    pub timeout: Duration,
    /// Number of retries of an interrupted transfer before it is an error.
    pub retries: u32,
    /// Whether to compare files with the SHA-256 in their card each time a model is resolved.
    pub check_digests: bool,
}

impl HubOptions {
    /// Default options for a models folder and a cache folder: no token, online, no progress output.
    pub fn new(models: impl Into<PathBuf>, cache: impl Into<PathBuf>) -> Self {
        Self {
            models: models.into(),
            cache: cache.into(),
            endpoint: None,
            token: None,
            offline: false,
            progress: false,
            timeout: Duration::from_secs(30),
            retries: 3,
            check_digests: true,
        }
    }

    /// Reads the options from `MOREC_MODELS` (default `models`), `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`,
    /// `HF_ENDPOINT`, `HF_TOKEN`, `HF_TOKEN_PATH` (default `HF_HOME/token`), `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE`
    /// and `HF_HUB_DOWNLOAD_TIMEOUT` (seconds). An empty variable counts as unset. Without a home folder the cache is a
    /// private temporary folder.
    ///
    /// # Errors
    /// [`Error::Config`] for an invalid value, or when no home folder is known, no cache is configured and no private
    /// temporary folder can be created.
    pub fn from_env() -> Result<Self> {
        let var = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty());
        let text = |name: &str| match var(name).map(|v| v.into_string()) {
            None => Ok(None),
            Some(Ok(v)) => Ok(Some(v)),
            Some(Err(_)) => Err(Error::config(name, "is not valid UTF-8")),
        };
        let user_cache = || {
            let xdg = var("XDG_CACHE_HOME").map(PathBuf::from);
            xdg.or_else(|| std::env::home_dir().filter(|h| !h.as_os_str().is_empty()).map(|h| h.join(".cache")))
        };
        let home = var("HF_HOME").map(PathBuf::from).or_else(|| user_cache().map(|c| c.join("huggingface")));
        let cache = var("HF_HUB_CACHE")
            .map(PathBuf::from)
            .or_else(|| home.as_ref().map(|h| h.join("hub")))
            .or_else(|| private_folders().first().map(|t| t.join("hub")))
            .ok_or_else(|| Error::config("HF_HUB_CACHE", "no home folder is known; set HF_HUB_CACHE to a folder"))?;

        let mut options = Self::new(var("MOREC_MODELS").unwrap_or_else(|| "models".into()), cache);
        options.endpoint = text("HF_ENDPOINT")?.map(|e| check_endpoint(&e)).transpose()?;
        options.offline = truthy(text("HF_HUB_OFFLINE")?) || truthy(text("TRANSFORMERS_OFFLINE")?);
        options.progress = true;
        if let Some(seconds) = text("HF_HUB_DOWNLOAD_TIMEOUT")? {
            let parsed = seconds.parse().ok().filter(|s: &f64| (0.001..=86_400.0).contains(s));
            let wrong = || Error::config("HF_HUB_DOWNLOAD_TIMEOUT", format!("`{seconds}` is not a number of seconds"));
            options.timeout = Duration::from_secs_f64(parsed.ok_or_else(wrong)?);
        }
        let token_file = var("HF_TOKEN_PATH").map(PathBuf::from).or_else(|| home.map(|h| h.join("token")));
        let from_file = || token_file.and_then(|p| std::fs::read_to_string(p).ok());
        let token = text("HF_TOKEN")?.or_else(from_file).map(|t| t.trim().to_string()).filter(|t| !t.is_empty());
        options.token = token.map(|t| Token::new(&t)).transpose()?;
        Ok(options)
    }
}

fn truthy(value: Option<String>) -> bool {
    value.is_some_and(|v| ["1", "on", "yes", "true"].contains(&v.trim().to_lowercase().as_str()))
}

fn check_endpoint(text: &str) -> Result<String> {
    let trimmed = text.trim().trim_end_matches('/');
    let uri: Option<ureq::http::Uri> = trimmed.parse().ok();
    match uri.as_ref().and_then(|u| u.scheme_str()) {
        Some("http" | "https") => Ok(trimmed.into()),
        _ => Err(Error::config("HF_ENDPOINT", format!("`{text}` is not an address like https://host"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_hidden() {
        let mut options = HubOptions::new("models", "cache");
        options.token = Some(Token::new("hf_secret").unwrap());
        assert!(!format!("{options:?}").contains("secret"));
        assert!(Token::new("two\nlines").is_err());
    }

    #[test]
    fn endpoints() {
        assert_eq!(check_endpoint("http://127.0.0.1:80/").unwrap(), "http://127.0.0.1:80");
        assert!(check_endpoint("ftp://x").is_err() && check_endpoint("mirror").is_err());
    }
}
