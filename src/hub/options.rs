//! Where to look and what is allowed, from the environment variables that Python's tools know too.

use super::private_temp::private_folders;
use crate::error::{Error, Result};
use std::path::PathBuf;
use std::time::Duration;

/// A secret that never shows in debug output or errors.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    /// Takes a token as it is.
    ///
    /// # Errors
    /// [`Error::Config`] when it could not be sent in a header (spaces, line ends, non-ASCII characters).
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
    /// The project's folder of models and cards.
    pub models: PathBuf,
    /// The Hugging Face cache; nothing outside it is written.
    pub cache: PathBuf,
    /// The hub's address; `None` is what the `hf-hub` crate defaults to.
    pub endpoint: Option<String>,
    /// The access token, where there is one.
    pub token: Option<Token>,
    /// Make no request at all.
    pub offline: bool,
    /// Report progress on stderr: a bar on a terminal, plain lines otherwise.
    pub progress: bool,
    /// How long to wait for a connection, for a response, and for the next bytes of a body.
    pub timeout: Duration,
    /// How often a broken transfer is taken up again before it is an error.
    pub retries: u32,
    /// Compare files with the SHA-256 of their card each time they are resolved.
    pub check_digests: bool,
}

impl HubOptions {
    /// Options for a cache folder, with no token, online, silent.
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

    /// Reads `MOREC_MODELS` (default `models`), `HF_HUB_CACHE`, `HF_HOME`, `XDG_CACHE_HOME`, `HF_ENDPOINT`, `HF_TOKEN`,
    /// `HF_TOKEN_PATH` (default `HF_HOME/token`), `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` and
    /// `HF_HUB_DOWNLOAD_TIMEOUT` (seconds). An empty variable counts as unset. Without a home folder the cache is a private
    /// temporary one.
    ///
    /// # Errors
    /// [`Error::Config`] for a value that cannot be meant, or when no home folder is known, no cache is named and no temporary
    /// folder can be had.
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
