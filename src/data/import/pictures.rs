//! Sources of images: a folder of files named by item id, a Parquet file with a binary column, or an LMDB in MoRec's
//! layout.

use crate::data::images::{ImageSource, OnImage};
use crate::error::{DataError, Error, Result};
use crate::fsio::{caught, open_regular};
use arrow::array::{Array, AsArray};
use arrow::datatypes::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::path::{Path, PathBuf};

/// Magic number of an LMDB, after the first page's header.
const MAGIC: [u8; 4] = 0xBEEF_C0DEu32.to_le_bytes();

/// Maximum size of an image file in bytes.
const MAX_FILE: u64 = 256 << 20;

/// Folder of images: `<item id>.jpg`, also in subfolders one level deep (H&M).
pub struct Folder {
    files: Vec<PathBuf>,
}

impl Folder {
    /// Lists the files of a folder.
    pub fn new(dir: &Path) -> Result<Self> {
        let mut files = vec![];
        list(dir, 1, &mut files)?;
        files.sort();
        Ok(Self { files })
    }
}

fn list(dir: &Path, below: usize, out: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = entry.map_err(Error::io(dir))?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with('.'));
        if path.is_dir() && below > 0 && !hidden {
            list(&path, below - 1, out)?;
        } else if path.is_file() && !hidden {
            out.push(path);
        }
    }
    Ok(())
}

impl ImageSource for Folder {
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()> {
        for path in &self.files {
            let stem = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
            let Some(item) = find(&stem) else { continue };
            let size = std::fs::metadata(path).map_err(Error::io(path))?.len();
            let bytes = match size > MAX_FILE {
                true => Err(format!("is a file of {} MB", size >> 20)),
                false => Ok(std::fs::read(path).map_err(Error::io(path))?),
            };
            give(item, path.display().to_string(), bytes)?;
        }
        Ok(())
    }
}

/// Parquet file of images: a column of item ids, and a column of bytes, plain or as Hugging Face's `{bytes, path}`.
pub struct Table {
    path: PathBuf,
    id: String,
    image: String,
}

impl Table {
    /// Creates the source from a path and the names of the two columns.
    pub fn new(path: &Path, id: &str, image: &str) -> Self {
        Self { path: path.into(), id: id.into(), image: image.into() }
    }
}

impl ImageSource for Table {
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()> {
        let bad = |m: String| Error::from(DataError::new(&self.path, m));
        let file = open_regular(&self.path).map_err(Error::data_io(&self.path))?;
        let panicked = || bad("not a whole Parquet file: its reader panicked".into());
        let open = || ParquetRecordBatchReaderBuilder::try_new(file).and_then(|b| b.with_batch_size(64).build());
        let mut reader = caught(open).ok_or_else(panicked)?.map_err(|e| bad(format!("not a Parquet file: {e}")))?;
        let mut row = 0u64;
        while let Some(batch) = caught(|| reader.next()).ok_or_else(panicked)? {
            let batch =
                batch.map_err(|e| bad(format!("{e} (files without compression, or with Snappy, can be read)")))?;
            let column = |name: &str, flag: &str| {
                batch.column_by_name(name).cloned().ok_or_else(|| {
                    let names: Vec<String> = batch.schema().fields().iter().map(|f| f.name().clone()).collect();
                    bad(format!("no column `{name}`, only {}; name it with {flag}", names.join(", ")))
                })
            };
            let ids = column(&self.id, "--image-id-col")?;
            let ids = arrow::compute::cast(&ids, &DataType::Utf8).map_err(|e| bad(e.to_string()))?;
            let mut images = column(&self.image, "--image-col")?;
            if let Some(s) = images.as_struct_opt() {
                images = s
                    .column_by_name("bytes")
                    .cloned()
                    .ok_or_else(|| bad(format!("`{}` has no `bytes`", self.image)))?;
            }
            let images = arrow::compute::cast(&images, &DataType::Binary)
                .map_err(|_| bad(format!("column `{}` is not binary", self.image)))?;
            let (ids, images) = (ids.as_string::<i32>(), images.as_binary::<i32>());
            for i in 0..batch.num_rows() {
                row += 1;
                if ids.is_null(i) || images.is_null(i) {
                    continue;
                }
                if let Some(item) = find(ids.value(i)) {
                    let name = self.path.file_name().unwrap_or_default().to_string_lossy();
                    give(item, format!("{name}:{row}"), Ok(images.value(i).to_vec()))?;
                }
            }
        }
        Ok(())
    }
}

/// Refuses a truncated LMDB. It is read through a memory map, where reading past the end of the file kills the process.
///
/// Each of the first two pages holds, after 16 bytes: magic and version (u32), address and map size (u64), two tables
/// of 48 bytes of which the first begins with the page size (u32), the last page and the transaction (u64). The later
/// transaction is valid.
#[cfg(feature = "lmdb")]
fn whole(path: &Path) -> Result<()> {
    use std::io::{Read, Seek, SeekFrom};
    let path = if path.is_dir() { path.join("data.mdb") } else { path.into() };
    let mut file = open_regular(&path).map_err(Error::data_io(&path))?;
    let bytes = file.metadata().map_err(Error::data_io(&path))?.len();
    let mut meta = |at: u64| {
        let mut page = [0u8; 152];
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut page)).ok()?;
        let number = |at: usize| Some(u64::from_le_bytes(*page.get(at..)?.first_chunk()?));
        (page[16..20] == MAGIC).then_some(())?;
        Some((number(144)?, number(136)?, number(40)? & u64::from(u32::MAX)))
    };
    // A file without such pages is no LMDB, which the library reports.
    let Some(first) = meta(0) else { return Ok(()) };
    let (_, last, size) = meta(first.2).map_or(first, |second| second.max(first));
    let wanted = last.saturating_add(1).saturating_mul(size);
    if bytes < wanted {
        let m = format!("cut off: {bytes} bytes of {wanted}");
        return Err(DataError::new(&path, m).remedy("copy it again, or write it anew with `mdb_copy -c`").into());
    }
    Ok(())
}

/// LMDB in the layout of MoRec, NineRec, IISAN or PixelRec.
#[cfg(feature = "lmdb")]
pub struct Lmdb(pub PathBuf);

#[cfg(feature = "lmdb")]
impl ImageSource for Lmdb {
    fn each(&self, find: &dyn Fn(&str) -> Option<u32>, give: &mut OnImage) -> Result<()> {
        use heed::types::Bytes;
        whole(&self.0)?;
        let bad = |e: heed::Error| Error::from(DataError::new(&self.0, format!("not a readable LMDB: {e}")));
        let mut options = heed::EnvOpenOptions::new();
        let mut flags = heed::EnvFlags::READ_ONLY | heed::EnvFlags::NO_LOCK;
        if self.0.is_file() {
            flags |= heed::EnvFlags::NO_SUB_DIR;
        }
        // SAFETY: opened read-only without a lock file. The contract is that no other process writes to it meanwhile.
        let env = unsafe {
            options.flags(flags);
            options.open(&self.0)
        }
        .map_err(bad)?;
        let txn = env.read_txn().map_err(bad)?;
        let Some(db) = env.open_database::<Bytes, Bytes>(&txn, None).map_err(bad)? else { return Ok(()) };
        for entry in db.iter(&txn).map_err(bad)? {
            let (key, value) = entry.map_err(bad)?;
            let key = String::from_utf8_lossy(key);
            let Some(item) = find(&key) else { continue };
            let place = format!("{}:{key}", self.0.display());
            let bytes = super::pickle::picture(value).map(|p| crate::picture::encode_png(&p));
            let bytes = bytes.map_err(|why| format!("is not a pickled picture: {why}"));
            give(item, place, bytes)?;
        }
        Ok(())
    }
}

/// Whether a path is an LMDB: a folder with `data.mdb`, or a single file (with the magic number after a page's header).
fn is_lmdb(path: &Path) -> bool {
    if path.is_dir() {
        return path.join("data.mdb").exists();
    }
    let mut head = [0u8; 20];
    let read = std::fs::File::open(path).and_then(|mut f| std::io::Read::read_exact(&mut f, &mut head));
    read.is_ok() && head[16..] == MAGIC
}

/// Opens the image source named by `--images`.
///
/// # Errors
/// A path that is no folder, Parquet file or LMDB; an LMDB without the feature `lmdb`.
pub fn open(path: &Path, id: &str, image: &str) -> Result<Box<dyn ImageSource>> {
    if is_lmdb(path) {
        #[cfg(feature = "lmdb")]
        return Ok(Box::new(Lmdb(path.into())));
        #[cfg(not(feature = "lmdb"))]
        return Err(Error::Usage(format!(
            "{} is an LMDB, which this binary was built without; build with --features lmdb",
            path.display()
        )));
    }
    if path.is_dir() {
        return Ok(Box::new(Folder::new(path)?));
    }
    if path.extension().is_some_and(|e| e == "parquet") {
        return Ok(Box::new(Table::new(path, id, image)));
    }
    Err(Error::Usage(format!("--images {}: is neither a folder, nor a .parquet file, nor an LMDB", path.display())))
}

/// Digest of an image source, by which an import detects changes: names and sizes of a folder's files, or the content
/// of a single file.
pub fn digest(path: &Path) -> Result<String> {
    let mdb = path.join("data.mdb");
    if mdb.exists() {
        return crate::fsio::sha256_file(&mdb);
    }
    if !path.is_dir() {
        return crate::fsio::sha256_file(path);
    }
    let mut text = String::new();
    for file in Folder::new(path)?.files {
        let meta = std::fs::metadata(&file).map_err(Error::io(&file))?;
        let inside = file.strip_prefix(path).unwrap_or(&file).display().to_string();
        let modified = meta.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
        text += &format!("{inside} {} {}\n", meta.len(), modified.map_or(0, |t| t.as_secs()));
    }
    Ok(crate::fsio::sha256_bytes(text.as_bytes()))
}
