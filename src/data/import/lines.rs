//! Lines of a text file, plain or gzip, decoded and numbered.

use super::rows::Fault;
use crate::data::policy::Encoding;
use crate::error::{DataError, Error};
use flate2::read::MultiGzDecoder;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Counts the bytes read from the file before decompression, which progress is relative to.
struct Counted(File, Arc<AtomicU64>);

impl Read for Counted {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let n = self.0.read(buf)?;
        self.1.fetch_add(n as u64, Relaxed);
        Ok(n)
    }
}

/// Format of a file that is not text, recognised by its first bytes, and the remedy; `None` for other files.
fn not_lines(magic: &[u8]) -> Option<(&'static str, &'static str)> {
    let known: [(&[u8], &str, &str); 7] = [
        (b"PK\x03\x04", "a zip archive", "unpack it and name the file inside"),
        (b"BZh", "compressed with bzip2", "unpack it with `bunzip2`, or compress it with gzip"),
        (b"\xfd7zXZ\0", "compressed with xz", "unpack it with `unxz`, or compress it with gzip"),
        (b"\x28\xb5\x2f\xfd", "compressed with zstd", "unpack it with `unzstd`, or compress it with gzip"),
        (b"version https://git-lfs", "a Git LFS pointer, not the file itself", "fetch the file with `git lfs pull`"),
        (b"PAR1", "a Parquet file", "pass `--format parquet`"),
        (b"SQLite format 3", "an SQLite database", "export its table as CSV"),
    ];
    known.iter().find(|(start, ..)| magic.starts_with(start)).map(|(_, what, remedy)| (*what, *remedy))
}

/// Reads lines one at a time into one buffer.
pub struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead>,
    encoding: Encoding,
    bytes: Vec<u8>,
    /// Current line, decoded, without its line end.
    pub text: String,
    /// 1-based number of the current line.
    pub number: u64,
    done: Arc<AtomicU64>,
    total: u64,
}

impl Lines {
    /// Opens a file; gzip is recognised by its first bytes.
    pub fn open(path: &Path, encoding: Encoding) -> Result<Self, Error> {
        if path.is_dir() {
            return Err(DataError::new(path, "is a folder, a file is wanted").into());
        }
        let mut file = File::open(path).map_err(Error::io(path))?;
        let total = file.metadata().map_err(Error::io(path))?.len();
        let mut magic = Vec::new();
        file.by_ref().take(24).read_to_end(&mut magic).map_err(Error::io(path))?;
        if let Some((what, remedy)) = not_lines(&magic) {
            return Err(DataError::new(path, format!("is {what}")).remedy(remedy).into());
        }
        std::io::Seek::rewind(&mut file).map_err(Error::io(path))?;
        let done = Arc::new(AtomicU64::new(0));
        let raw = BufReader::with_capacity(1 << 16, Counted(file, done.clone()));
        let reader: Box<dyn BufRead> = match magic[..] {
            [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(1 << 16, MultiGzDecoder::new(raw))),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                let e = DataError::new(path, "is UTF-16").line(1);
                return Err(e.remedy("convert it to UTF-8, for example with `iconv -f UTF-16 -t UTF-8`").into());
            }
            _ => Box::new(raw),
        };
        let path = path.to_path_buf();
        Ok(Self { path, reader, encoding, bytes: Vec::new(), text: String::new(), number: 0, done, total })
    }

    /// Reads the next line; returns `false` at the end of the file.
    pub fn advance(&mut self) -> Result<bool, Fault> {
        self.bytes.clear();
        self.number += 1;
        let n = self.reader.read_until(b'\n', &mut self.bytes).map_err(|e| self.unreadable(e))?;
        if n == 0 {
            return Ok(false);
        }
        if self.bytes.last() == Some(&b'\n') {
            self.bytes.pop();
        }
        if self.bytes.last() == Some(&b'\r') {
            self.bytes.pop();
        }
        let bytes = match self.number {
            1 => self.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&self.bytes),
            _ => &self.bytes,
        };
        self.text.clear();
        match self.encoding {
            Encoding::Latin1 => self.text.extend(bytes.iter().map(|&b| char::from(b))),
            Encoding::Utf8 => match std::str::from_utf8(bytes) {
                Ok(text) => self.text.push_str(text),
                Err(e) => {
                    let at = e.valid_up_to();
                    let m = format!("byte {:#04x} at column {} is not UTF-8", bytes[at], at + 1);
                    let remedy = "convert the file, or pass `--encoding latin1` if that is what it is in";
                    return Err(Fault::Row(DataError::new(&self.path, m).line(self.number).remedy(remedy)));
                }
            },
        }
        Ok(true)
    }

    fn unreadable(&self, e: std::io::Error) -> Error {
        use std::io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        match e.kind() {
            UnexpectedEof | InvalidInput | InvalidData => {
                let e = DataError::new(&self.path, format!("the gzip data is damaged or cut off: {e}"));
                e.line(self.number).remedy("fetch the file again").into()
            }
            _ => Error::io(&self.path)(e),
        }
    }

    /// Raw file.
    pub fn path(&self) -> &Path {
        &self.path
    }
    /// Number of bytes read from the file, and its size.
    pub fn progress(&self) -> (u64, u64) {
        (self.done.load(Relaxed), self.total)
    }
}

/// Calls `each` with the number and text of every line that is not blank, read as imports read them: plain or gzip, with or
/// without a byte-order mark, UTF-8.
///
/// # Errors
/// The first line that is not UTF-8, a file that cannot be read, and those of `each`.
pub fn for_each_line(path: &Path, mut each: impl FnMut(u64, &str) -> Result<(), Error>) -> Result<(), Error> {
    let mut lines = Lines::open(path, Encoding::Utf8)?;
    loop {
        match lines.advance() {
            Ok(true) if lines.text.trim().is_empty() => {}
            Ok(true) => each(lines.number, &lines.text)?,
            Ok(false) => return Ok(()),
            Err(Fault::Row(e)) => return Err(e.into()),
            Err(Fault::File(e)) => return Err(e),
        }
    }
}
