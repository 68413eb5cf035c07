//! Atomic writes, digests and manifests: each stage reads one folder and writes one folder.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Once;

/// Writes a file atomically: readers see the old content or the new one, never a part of it.
pub fn write_atomic(path: &Path, fill: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let tmp = sibling(path, "tmp");
    if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    let written = (|| {
        let mut w = BufWriter::new(File::create(&tmp).map_err(Error::io(&tmp))?);
        fill(&mut w)?;
        let file = w.into_inner().map_err(|e| Error::io(&tmp)(e.into_error()))?;
        file.sync_all().map_err(Error::io(&tmp))?;
        fs::rename(&tmp, path).map_err(Error::io(path))
    })();
    if written.is_err() {
        fs::remove_file(&tmp).ok();
    }
    written?;
    sync_parent(path)
}

/// Writes bytes to a file as [`write_atomic`].
pub fn write_bytes(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic(path, |w| w.write_all(bytes).map_err(Error::io(path)))
}

/// Writes a value as pretty-printed JSON with a final newline, atomically.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value)
        .map_err(|e| Error::Io { path: path.into(), source: std::io::Error::other(e) })?;
    text.push('\n');
    write_bytes(path, text.as_bytes())
}

/// Reads a whole text file.
pub fn read_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::io(path))
}

/// Reads a text file that belongs to a model, a run, a checkpoint or an adapter.
///
/// # Errors
/// [`Error::Model`] when the file is missing, not a regular file or not UTF-8; [`Error::Io`].
pub fn read_model_text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = open_regular(path).and_then(|mut f| f.read_to_string(&mut text));
    read.map_err(Error::model_io(path))?;
    Ok(text)
}

/// Reads a text file with data, which may be a pipe.
///
/// # Errors
/// [`Error::Data`] when the file is missing, a folder or not UTF-8; [`Error::Io`].
pub fn read_data_text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::data_io(path))
}

/// Opens a regular file for reading. A folder, a pipe or a device is an error of the kind `IsADirectory`, because
/// opening a pipe waits for its writer, and a folder fails only when it is read.
pub fn open_regular(path: &Path) -> std::io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(std::io::ErrorKind::IsADirectory.into()),
    }
}

thread_local! {
    /// Whether panics of this thread are caught and converted to errors, so that the panic hook prints nothing.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Calls a reader of another crate that panics on some damaged files; `None` if it panicked. The panic prints nothing.
pub fn caught<T>(read: impl FnOnce() -> T) -> Option<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    let outer = QUIET.replace(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(read));
    QUIET.set(outer);
    result.ok()
}

fn sibling(path: &Path, tag: &str) -> PathBuf {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{tag}-{}", std::process::id()))
}

/// Syncs the parent folder; a rename is durable only after that.
fn sync_parent(path: &Path) -> Result<()> {
    if cfg!(unix) {
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let dir = File::open(parent).map_err(Error::io(parent))?;
        dir.sync_all().map_err(Error::io(parent))?;
    }
    Ok(())
}

/// A temporary folder beside its target; [`Staged::commit`] moves it there atomically.
pub struct Staged {
    target: PathBuf,
    tmp: PathBuf,
}

impl Staged {
    /// Creates the temporary folder for `target`.
    pub fn new(target: &Path) -> Result<Self> {
        let tmp = sibling(target, "tmp");
        if let Some(parent) = target.parent().filter(|p| !p.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(Error::io(parent))?;
        }
        if tmp.exists() {
            fs::remove_dir_all(&tmp).map_err(Error::io(&tmp))?;
        }
        fs::create_dir(&tmp).map_err(Error::io(&tmp))?;
        Ok(Self { target: target.into(), tmp })
    }
    /// Path of the temporary folder, for writing.
    pub fn path(&self) -> &Path {
        &self.tmp
    }
    /// Syncs all files and moves the folder to its target. An existing target is replaced, atomically where the system
    /// supports it.
    pub fn commit(self) -> Result<()> {
        sync_tree(&self.tmp)?;
        if self.target.exists() {
            exchange(&self.tmp, &self.target)?;
            sync_parent(&self.target)?;
            // `tmp` now holds the old folder; dropping `self` removes it.
        } else {
            fs::rename(&self.tmp, &self.target).map_err(Error::io(&self.target))?;
            sync_parent(&self.target)?;
        }
        Ok(())
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if self.tmp.exists() {
            fs::remove_dir_all(&self.tmp).ok();
        }
    }
}

/// Removes temporary files and folders of killed processes in `dir`. A folder that was renamed for a replacement which
/// did not finish is renamed back. No other process may write to `dir` meanwhile.
pub fn clear_unfinished(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let Some((stem, tag)) = name.strip_prefix('.').and_then(|n| n.rsplit_once('.')) else { continue };
        let target = dir.join(stem);
        if tag.starts_with("old-") && !target.exists() {
            fs::rename(&path, &target).map_err(Error::io(&target))?;
        } else if (tag.starts_with("tmp-") || tag.starts_with("old-")) && path.is_dir() {
            fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        } else if tag.starts_with("tmp-") {
            fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

/// Whether a folder contains anything except the lock file and temporary files of killed processes.
pub fn holds_something(dir: &Path) -> Result<bool> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let name = entry.map_err(Error::io(dir))?.file_name();
        let name = name.to_string_lossy();
        if name != ".lock" && !(name.starts_with('.') && name.contains(".tmp-")) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn sync_tree(dir: &Path) -> Result<()> {
    for entry in fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        } else {
            File::open(&path).and_then(|f| f.sync_all()).map_err(Error::io(&path))?;
        }
    }
    File::open(dir).and_then(|f| f.sync_all()).map_err(Error::io(dir))
}

/// Exchanges two folders, atomically on Linux; elsewhere (or on a file system that cannot) by renames.
fn exchange(new: &Path, old: &Path) -> Result<()> {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::ffi::OsStrExt;
        let c = |p: &Path| std::ffi::CString::new(p.as_os_str().as_bytes()).map_err(|e| Error::io(p)(e.into()));
        let (a, b) = (c(new)?, c(old)?);
        // SAFETY: both are NUL-terminated paths that outlive the call.
        let rc =
            unsafe { libc::renameat2(libc::AT_FDCWD, a.as_ptr(), libc::AT_FDCWD, b.as_ptr(), libc::RENAME_EXCHANGE) };
        if rc == 0 {
            return Ok(());
        }
    }
    let aside = sibling(old, "old");
    fs::rename(old, &aside).map_err(Error::io(old))?;
    fs::rename(new, old).map_err(Error::io(old))?;
    fs::rename(&aside, new).map_err(Error::io(&aside))
}

/// SHA-256 of a file, lower-case hex.
pub fn sha256_file(path: &Path) -> Result<String> {
    File::open(path).and_then(sha256_read).map_err(Error::io(path))
}

/// SHA-256 of a regular file that belongs to a model, a run or a data set; see [`sha256_file`].
fn sha256_part(path: &Path) -> Result<String> {
    open_regular(path).and_then(sha256_read).map_err(Error::model_io(path))
}

fn sha256_read(file: File) -> std::io::Result<String> {
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut hash = Sha256::new();
    let mut buf = vec![0u8; 1 << 20];
    loop {
        let n = reader.read(&mut buf)?;
        if n == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buf[..n]);
    }
}

/// SHA-256 of bytes, lower-case hex.
pub fn sha256_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Record of how a folder was made: `manifest.json` in the folder of a data set, checkpoint or run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Manifest {
    /// Version of the folder's layout.
    pub format: u32,
    /// Kind of the folder: `dataset`, `checkpoint`, `run`.
    pub kind: String,
    /// Version of the crate that wrote it.
    pub morec: String,
    /// SHA-256 of each input, by name.
    pub inputs: BTreeMap<String, String>,
    /// Settings that the folder was made with.
    pub config: serde_json::Value,
    /// Size and digest of each file of the folder, by name.
    pub files: BTreeMap<String, FileEntry>,
    /// Counts and other facts as JSON.
    pub facts: serde_json::Value,
}

/// Size and digest of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Length in bytes.
    pub bytes: u64,
    /// SHA-256, lower-case hex.
    pub sha256: String,
}

/// Name of the manifest inside a folder.
pub const MANIFEST: &str = "manifest.json";

impl Manifest {
    /// Creates an empty manifest of this crate version.
    pub fn new(kind: &str, format: u32) -> Self {
        Self {
            format,
            kind: kind.into(),
            morec: env!("CARGO_PKG_VERSION").into(),
            inputs: BTreeMap::new(),
            config: serde_json::Value::Null,
            files: BTreeMap::new(),
            facts: serde_json::Value::Null,
        }
    }
    /// Records size and digest of the named files of `dir` and writes `manifest.json` there.
    pub fn seal(mut self, dir: &Path, files: &[&str]) -> Result<Self> {
        for name in files {
            let path = dir.join(name);
            let bytes = fs::metadata(&path).map_err(Error::io(&path))?.len();
            self.files.insert((*name).into(), FileEntry { bytes, sha256: sha256_file(&path)? });
        }
        write_json(&dir.join(MANIFEST), &self)?;
        Ok(self)
    }
    /// Reads `dir/manifest.json` and checks kind and format; `remake` is the remedy in error messages.
    pub fn read(dir: &Path, kind: &str, format: u32, remake: &str) -> Result<Self> {
        let path = dir.join(MANIFEST);
        if !path.exists() {
            return Err(Error::model(dir, format!("not a {kind} folder: no {MANIFEST}; {remake}")));
        }
        let manifest: Self = serde_json::from_str(&read_model_text(&path)?)
            .map_err(|e| Error::model(&path, format!("damaged: {e}; {remake}")))?;
        if manifest.kind != kind {
            return Err(Error::model(dir, format!("is a {} folder, not a {kind} folder", manifest.kind)));
        }
        if manifest.format != format {
            return Err(Error::model(
                dir,
                format!("{kind} format {}, this version reads {format}; {remake}", manifest.format),
            ));
        }
        Ok(manifest)
    }
    /// Compares the size of every file, and with `deep` its digest, with the recorded values.
    pub fn verify(&self, dir: &Path, deep: bool) -> Result<()> {
        for (name, entry) in &self.files {
            let path = dir.join(name);
            let bytes = fs::metadata(&path).map_err(Error::model_io(&path))?.len();
            if bytes != entry.bytes {
                let m = format!("damaged: {bytes} bytes, the manifest says {}", entry.bytes);
                return Err(Error::model(&path, m));
            }
            if deep && sha256_part(&path)? != entry.sha256 {
                return Err(Error::model(&path, "damaged: its SHA-256 differs from the manifest"));
            }
        }
        Ok(())
    }
    /// Digest of the folder's content, computed from the names and digests of its files.
    pub fn digest(&self) -> String {
        let all: String = self.files.iter().map(|(n, e)| format!("{n}:{}\n", e.sha256)).collect();
        sha256_bytes(all.as_bytes())
    }
}
