//! Helpers of the data tests: a temporary folder, and the command line without printing.

use clap::Parser;
use morec::Result;
use morec::cli::data::{DataArgs, DataCommand};
use morec::data::import::Imported;
use morec::data::{Csr, Dataset, Items};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A temporary folder with raw files and a target `out`.
pub struct Sublayer {
    dir: TempDir,
}

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    data: DataArgs,
}

impl Sublayer {
    pub fn new() -> Self {
        Self { dir: TempDir::new().expect("temporary folder") }
    }
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
    pub fn file(&self, name: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        fs::write(path, content).expect("write");
        self
    }
    /// Runs `morec data import <args> --out out`, `@` in an argument standing for this folder.
    pub fn try_import(&self, args: &str) -> Result<Imported> {
        let here = self.dir.path().to_str().expect("utf-8 path");
        let out = self.path("out");
        import_command(args.split_whitespace().map(|a| a.replace('@', here)), &out)
    }
    /// The same, opened.
    pub fn import(&self, args: &str) -> (Imported, Dataset) {
        let done = self.try_import(args).unwrap_or_else(|e| panic!("{e}"));
        (done, Dataset::open(&self.path("out")).unwrap_or_else(|e| panic!("{e}")))
    }
    /// The error, after checking that nothing is left at the target or beside it.
    pub fn refused(&self, args: &str) -> (u8, String) {
        let e = self.try_import(args).err().unwrap_or_else(|| panic!("imported: {args}"));
        assert!(!self.path("out").exists(), "something is left at the target");
        let left = fs::read_dir(self.dir.path()).expect("folder").flatten();
        let left: Vec<_> = left.map(|e| e.file_name()).filter(|n| n.to_string_lossy().starts_with('.')).collect();
        assert!(left.is_empty(), "left behind: {left:?}");
        (e.exit_code(), e.to_string())
    }
    /// Checks the class and every part of a refusal's message.
    pub fn refuses(&self, args: &str, code: u8, parts: &[&str]) {
        let (got, message) = self.refused(args);
        assert_eq!(got, code, "{message}");
        for part in parts {
            assert!(message.contains(part), "`{part}` is not in: {message}");
        }
    }
}

/// Runs an import given as words after `morec data import`.
pub fn import_command(words: impl Iterator<Item = String>, out: &Path) -> Result<Imported> {
    let mut all: Vec<String> = vec!["data".into(), "import".into()];
    all.extend(words);
    all.extend(["--out".into(), out.to_string_lossy().into_owned()]);
    match Command::try_parse_from(all).unwrap_or_else(|e| panic!("{e}")).data.command {
        DataCommand::Import(args) => args.execute(),
        other => panic!("{other:?}"),
    }
}

/// Each user's id with the raw ids of its items.
pub fn raw(d: &Dataset) -> Vec<(String, Vec<String>)> {
    let ids = |row: &[u32]| row.iter().map(|&i| d.items.ids[i as usize].clone()).collect();
    d.users.iter().cloned().zip(d.seqs.rows().map(ids)).collect()
}

/// What `raw` gives for `"u a b; v c"`.
pub fn rows(text: &str) -> Vec<(String, Vec<String>)> {
    let row = |r: &str| {
        let mut words = r.split_whitespace().map(String::from);
        (words.next().expect("user"), words.collect())
    };
    text.split(';').map(row).collect()
}

/// A data set in memory.
pub fn dataset(items: usize, seqs: &[(&[u32], &[i64])]) -> Dataset {
    let mut d = Dataset {
        items: Items {
            ids: (0..items).map(|i| format!("i{i}")).collect(),
            text: (0..items).map(|i| format!("Title {i}")).collect(),
            ..Items::default()
        },
        users: (0..seqs.len()).map(|u| format!("u{u}")).collect(),
        seqs: Csr::default(),
        times: Some(Vec::new()),
        ..Dataset::default()
    };
    for (row, times) in seqs {
        d.seqs.push(row);
        d.times.as_mut().expect("times").extend_from_slice(times);
    }
    d
}

/// The folder with the shared real data.
pub fn shared() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared");
    let dir = std::env::var_os("MOREC_SHARED").map_or_else(default, PathBuf::from).join("data");
    assert!(
        dir.is_dir(),
        "the real data is not at {}: set MOREC_SHARED to the folder that holds `data/`",
        dir.display()
    );
    dir
}
