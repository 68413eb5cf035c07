//! A model hub on the loopback interface: the repository listing and ranged downloads, with faults to order.

use super::Files;
use morec::fsio::sha256_bytes;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Faults {
    /// Answer the listing with this status.
    pub listing_status: Option<u16>,
    /// Answer every download with this status.
    pub file_status: Option<u16>,
    /// Cut this file's body after so many bytes, so many times.
    pub cut: Option<(String, usize, usize)>,
    /// Answer a ranged request with the whole file.
    pub ignore_ranges: bool,
    /// Flip a bit of this file on its way.
    pub corrupt: Option<String>,
    /// Send downloads to this address, path appended.
    pub redirect: Option<String>,
    /// Say no sizes, digests or blob names.
    pub bare_listing: bool,
    /// Another commit than [`COMMIT`].
    pub commit: Option<String>,
    /// Accept, then say nothing.
    pub hang: bool,
    /// Stop in the middle of a file without closing.
    pub stall: bool,
    /// Demand this token.
    pub token: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub authorization: Option<String>,
    pub range: Option<String>,
}

struct State {
    files: Files,
    faults: Faults,
    requests: Vec<Request>,
}

/// Serves until the test process ends.
pub struct Server {
    pub url: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn new(files: Files, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { files, faults, requests: Vec::new() }));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, state }
    }
    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }
    /// Names of the files asked for so far, in order.
    pub fn downloads(&self) -> Vec<String> {
        let name = |r: &Request| r.path.split_once("/resolve/").map(|(_, p)| p.rsplit('/').next().unwrap().to_string());
        self.requests().iter().filter_map(name).collect()
    }
    pub fn set(&self, change: impl FnOnce(&mut Files, &mut Faults)) {
        let mut state = self.state.lock().unwrap();
        let State { files, faults, requests } = &mut *state;
        change(files, faults);
        requests.clear();
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_string());
    }
    let Some(path) = lines.first().and_then(|l| l.split(' ').nth(1)).map(String::from) else { return };
    let header = |name: &str| {
        let found = lines.iter().skip(1).filter_map(|l| l.split_once(": ")).find(|(n, _)| n.eq_ignore_ascii_case(name));
        found.map(|(_, v)| v.to_string())
    };
    let request = Request { path, authorization: header("authorization"), range: header("range") };
    let hang = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.faults.hang
    };
    if hang {
        std::thread::sleep(std::time::Duration::from_secs(20));
        return;
    }
    let (reply, stall) = {
        let mut state = state.lock().unwrap();
        (answer(&request, &mut state), state.faults.stall && request.path.contains("/resolve/"))
    };
    stream.write_all(&reply[..reply.len() - if stall { 5 } else { 0 }]).ok();
    if stall {
        std::thread::sleep(std::time::Duration::from_secs(20));
    }
}

fn answer(request: &Request, state: &mut State) -> Vec<u8> {
    let faults = &mut state.faults;
    if let Some(token) = &faults.token
        && request.authorization.as_deref() != Some(&format!("Bearer {token}"))
    {
        return reply(401, "", b"no");
    }
    if request.path.starts_with("/api/models/") {
        return match faults.listing_status {
            Some(status) => reply(status, "", b"no"),
            None => reply(200, "Content-Type: application/json\r\n", listing(&state.files, faults).as_bytes()),
        };
    }
    if let Some(status) = faults.file_status {
        return reply(status, "", b"no");
    }
    if let Some(to) = faults.redirect.as_ref().filter(|_| !request.path.starts_with("/moved")) {
        return reply(302, &format!("Location: {to}/moved{}\r\n", request.path), b"");
    }
    let name = request.path.rsplit('/').next().unwrap_or_default();
    let Some(mut content) = state.files.get(name).cloned() else { return reply(404, "", b"no") };
    if faults.corrupt.as_deref() == Some(name) {
        *content.last_mut().unwrap() ^= 1;
    }
    let from: Option<usize> =
        request.range.as_ref().and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
    let total = content.len();
    let mut out = match from.filter(|_| !faults.ignore_ranges) {
        Some(from) if from < total => {
            let range = format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1);
            reply(206, &range, &content[from..])
        }
        Some(_) => reply(416, "", b""),
        None => reply(200, "ETag: \"x\"\r\n", &content),
    };
    if let Some((cut_name, after, times)) = &mut faults.cut
        && cut_name == name
        && *times > 0
    {
        *times -= 1;
        let body = out.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        out.truncate(body + *after);
    }
    out
}

fn listing(files: &Files, faults: &Faults) -> String {
    let sibling = |(name, content): (&String, &Vec<u8>)| {
        let sha256 = sha256_bytes(content);
        if faults.bare_listing {
            return serde_json::json!({ "rfilename": name });
        }
        let mut entry = serde_json::json!({ "rfilename": name, "size": content.len(), "blobId": sha256[..40] });
        if name.ends_with(".safetensors") {
            entry["lfs"] = serde_json::json!({ "sha256": sha256, "size": content.len(), "pointerSize": 130 });
        }
        entry
    };
    let siblings: Vec<_> = files.iter().map(sibling).collect();
    let sha = faults.commit.as_deref().unwrap_or(COMMIT);
    serde_json::json!({ "id": "acme/tiny", "sha": sha, "siblings": siblings }).to_string()
}

fn reply(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n");
    [head.as_bytes(), body].concat()
}
