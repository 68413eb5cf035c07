//! Downloads one file over HTTP into the cache. A partial download is resumed if its content is identified by its name;
//! the file is renamed to its final name only after its length, digest and format are checked.

use super::content::damage;
use super::listing::refused;
use super::options::HubOptions;
use super::progress::Progress;
use crate::error::{Error, Result};
use crate::fsio;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::Agent;
use ureq::http::{Response, Uri, header};

/// Download of one file: its URL, its expected size and digest, and its target.
pub(super) struct Job<'a> {
    pub url: String,
    /// File name in the repository, which also selects the format check.
    pub name: &'a str,
    pub bytes: Option<u64>,
    pub sha256: Option<&'a str>,
    /// Path of the finished file. A partial file beside it is kept only if `resumable`, that is when this name
    /// identifies the content.
    pub target: PathBuf,
    pub resumable: bool,
}

/// Creates the HTTP client. Redirects are followed by `request`, which sends the token to the endpoint's host only.
pub(super) fn client(options: &HubOptions) -> Agent {
    let limit = Some(options.timeout);
    let config = Agent::config_builder()
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .timeout_connect(limit)
        .timeout_recv_response(limit)
        .timeout_per_read(limit)
        // Without compression, lengths and ranges count bytes of the file itself.
        .accept_encoding("identity")
        .user_agent(concat!("morec/", env!("CARGO_PKG_VERSION")));
    config.build().into()
}

enum Failure {
    /// Failure after which the transfer is retried.
    Broken(String),
    Final(Error),
}

/// Downloads a file to `job.target`, which is created atomically after all checks.
///
/// # Errors
/// [`Error::Hub`] when the server refuses, the retries are used up or a check fails; [`Error::Model`]; [`Error::Io`].
pub(super) fn fetch(agent: &Agent, options: &HubOptions, job: &Job) -> Result<()> {
    let part = job
        .target
        .with_file_name(format!("{}.morec-part", job.target.file_name().and_then(|n| n.to_str()).unwrap_or("file")));
    if !job.resumable {
        std::fs::remove_file(&part).ok();
    }
    let mut progress = Progress::new(options.progress, job.name, job.bytes);
    let mut attempt = 0;
    let broken = loop {
        match transfer(agent, options, job, &part, &mut progress) {
            Ok(()) => break None,
            Err(Failure::Final(e)) => {
                std::fs::remove_file(&part).ok();
                return Err(e);
            }
            Err(Failure::Broken(why)) if attempt == options.retries => break Some(why),
            Err(Failure::Broken(_)) => std::thread::sleep(Duration::from_millis(300 << attempt.min(5))),
        }
        attempt += 1;
    };
    if let Some(why) = broken {
        let kept = if job.resumable && part.exists() {
            "; what arrived is kept, so the same command goes on from there"
        } else {
            std::fs::remove_file(&part).ok();
            ""
        };
        return Err(Error::Hub(format!("{}: the transfer broke off ({why}){kept}", job.name)));
    }
    progress.finish();
    if let Err(e) = check(job, &part) {
        std::fs::remove_file(&part).ok();
        return Err(e);
    }
    File::open(&part).and_then(|f| f.sync_all()).map_err(Error::io(&part))?;
    std::fs::rename(&part, &job.target).map_err(Error::io(&job.target))
}

/// Checks the digest, where one is known, and the format that the file's name implies.
fn check(job: &Job, part: &Path) -> Result<()> {
    if let Some(expected) = job.sha256 {
        let found = fsio::sha256_file(part)?;
        if found != expected {
            return Err(Error::Hub(format!(
                "{}: the download has SHA-256 {found}, expected {expected}; it was removed, try again (or the file has \
                 changed since its card was written)",
                job.name
            )));
        }
    }
    match damage(part, job.name)? {
        None => Ok(()),
        Some(why) => Err(Error::Hub(format!(
            "{}: {why}; it was removed: the repository, or the server of HF_ENDPOINT, has a damaged file",
            job.name
        ))),
    }
}

fn transfer(
    agent: &Agent,
    options: &HubOptions,
    job: &Job,
    part: &Path,
    progress: &mut Progress,
) -> Result<(), Failure> {
    let io = |e: std::io::Error| Failure::Final(Error::io(part)(e));
    let mut have = std::fs::metadata(part).map_or(0, |m| m.len());
    if job.bytes.is_some_and(|total| have > total) {
        have = 0;
    }
    if have > 0 && job.bytes == Some(have) {
        return Ok(());
    }
    let response = request(agent, options, job, have)?;
    let status = response.status().as_u16();
    let (start, total) = match status {
        206 => {
            let (start, total) = content_range(&response).unwrap_or((u64::MAX, None));
            if start != have {
                std::fs::remove_file(part).ok();
                return Err(Failure::Broken("the server sent another range than asked for".into()));
            }
            (start, total)
        }
        200 => (0, response.body().content_length()),
        416 => {
            std::fs::remove_file(part).ok();
            return Err(Failure::Broken("the server has no such range".into()));
        }
        408 | 429 | 500..=599 => return Err(Failure::Broken(refused("the hub", status, options))),
        _ => return Err(Failure::Final(Error::Hub(refused(job.name, status, options)))),
    };
    if let (Some(said), Some(listed)) = (total, job.bytes)
        && said != listed
    {
        let m = format!("{}: the server offers {said} bytes, the listing says {listed}; not taken", job.name);
        return Err(Failure::Final(Error::Hub(m)));
    }
    let expected = job.bytes.or(total);
    let mut file = OpenOptions::new().create(true).append(true).open(part).map_err(io)?;
    if start == 0 {
        file.set_len(0).map_err(io)?;
    }
    progress.restart(start);
    let mut got = start;
    let mut reader = response.into_body().into_reader();
    let mut buf = vec![0u8; 1 << 16];
    loop {
        let n = reader.read(&mut buf).map_err(|e| Failure::Broken(e.to_string()))?;
        if n == 0 {
            break;
        }
        got += n as u64;
        if expected.is_some_and(|e| got > e) {
            let m = format!("{}: the server sends more than the {} bytes announced; not taken", job.name, got);
            return Err(Failure::Final(Error::Hub(m)));
        }
        file.write_all(&buf[..n]).map_err(io)?;
        progress.add(n as u64);
    }
    match expected {
        Some(e) if got < e => Err(Failure::Broken(format!("{got} of {e} bytes came"))),
        _ => Ok(()),
    }
}

/// Sends a GET request for the bytes from `from` on. Up to ten redirects are followed; the token is sent to the
/// endpoint's own host only.
fn request(agent: &Agent, options: &HubOptions, job: &Job, from: u64) -> Result<Response<ureq::Body>, Failure> {
    let hub = |m: String| Failure::Final(Error::Hub(format!("{}: {m}", job.name)));
    let home: Uri = job.url.parse().map_err(|e| hub(format!("`{}` is not an address: {e}", job.url)))?;
    let mut at = home.clone();
    for _ in 0..10 {
        let mut request = agent.get(at.clone());
        if from > 0 {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = options.token.as_ref().filter(|_| same_host(&home, &at)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", token.reveal()));
        }
        let response = request.call().map_err(|e| Failure::Broken(e.to_string()))?;
        if !response.status().is_redirection() {
            return Ok(response);
        }
        let to = response.headers().get(header::LOCATION).and_then(|l| l.to_str().ok());
        let to = to.ok_or_else(|| hub("redirected to nowhere".into()))?;
        let next = join(&at, to).ok_or_else(|| hub("redirected to something that is not an address".into()))?;
        if at.scheme_str() == Some("https") && next.scheme_str() != Some("https") {
            return Err(hub("redirected from https to plain http; not followed".into()));
        }
        at = next;
    }
    Err(hub("redirected more than ten times".into()))
}

fn same_host(a: &Uri, b: &Uri) -> bool {
    a.scheme() == b.scheme() && a.authority() == b.authority()
}

fn join(base: &Uri, to: &str) -> Option<Uri> {
    let uri: Uri = if to.starts_with('/') && !to.starts_with("//") {
        format!("{}://{}{to}", base.scheme_str()?, base.authority()?).parse().ok()?
    } else {
        to.parse().ok()?
    };
    (matches!(uri.scheme_str(), Some("http" | "https")) && uri.authority().is_some()).then_some(uri)
}

/// Start offset and total length from the header `Content-Range: bytes 5-9/10`.
fn content_range(response: &Response<ureq::Body>) -> Option<(u64, Option<u64>)> {
    let text = response.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-')?.0.parse().ok()?, total.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects() {
        let base: Uri = "https://hub.example/a/b".parse().unwrap();
        assert_eq!(join(&base, "/c?d=e").unwrap(), "https://hub.example/c?d=e");
        assert_eq!(join(&base, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        assert!(join(&base, "file:///etc/passwd").is_none() && join(&base, "x").is_none());
        assert!(same_host(&base, &join(&base, "/c").unwrap()));
        assert!(!same_host(&base, &"https://cdn.example/".parse().unwrap()));
        assert!(!same_host(&base, &"http://hub.example/".parse().unwrap()));
        assert!(!same_host(&base, &"https://hub.example:444/".parse().unwrap()));
    }
}
