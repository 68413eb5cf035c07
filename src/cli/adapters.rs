//! `morec adapters`: list, merge, import, export and compare adapters.

use super::output::{bytes, print, print_json, table};
use super::settings::Threads;
use crate::config::Modality;
use crate::error::{Error, Result};
use crate::experiment;
use crate::fsio;
use crate::model::{ModelFolder, adapter_folder, export, folder, merge};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// List, merge, import, export and compare adapters
#[derive(Debug, Args)]
pub struct AdaptersArgs {
    #[command(subcommand)]
    command: AdaptersCommand,
    #[command(flatten)]
    threads: Threads,
}

#[derive(Debug, Subcommand)]
enum AdaptersCommand {
    /// Adapters below some folders, the base of each, size, and result
    List {
        /// Folders to look in
        #[arg(default_value = "runs", env = "MOREC_RUNS")]
        dirs: Vec<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make a whole model of an adapter and its base; lora and ia3 become part of the weights
    Merge {
        /// An adapter's run or folder
        adapter: PathBuf,
        /// Its base, where it is not where it was
        #[arg(long, value_name = "MODEL")]
        base: Option<PathBuf>,
        /// The model folder to make
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// Take the adapter out of a model that it was merged into (lora, ia3)
        #[arg(long, value_name = "MODEL", conflicts_with = "base")]
        undo: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make an adapter from a folder that the Python packages `peft` or `adapters` wrote
    Import {
        /// The folder: adapter_config.json and safetensors
        from: PathBuf,
        /// The model it is to belong to
        #[arg(long, value_name = "MODEL")]
        base: PathBuf,
        /// Which of its encoders: text or image
        #[arg(long, default_value = "text", value_parser = modality)]
        encoder: Modality,
        /// The adapter folder to make
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write an encoder as a Hugging Face folder, and its adapter for `peft` or `adapters` beside it
    Export {
        /// An adapter's or a model's run or folder
        model: PathBuf,
        /// Which of its encoders: text or image
        #[arg(long, default_value = "text", value_parser = modality)]
        encoder: Modality,
        /// The folder to make; the adapter lies in DIR/adapter
        #[arg(short, long, value_name = "DIR")]
        out: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Which values differ between two adapters (or models), and by how much
    Diff {
        /// One
        a: PathBuf,
        /// The other
        b: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

fn modality(name: &str) -> std::result::Result<Modality, String> {
    Modality::from_name(name).ok_or_else(|| "text or image".into())
}

/// Runs `morec adapters …`.
pub fn run(args: AdaptersArgs) -> Result<()> {
    args.threads.apply()?;
    match args.command {
        AdaptersCommand::List { dirs, json } => list(&dirs, json),
        AdaptersCommand::Merge { adapter, base, out, undo, json } => {
            vacant(&out)?;
            let folder = open(&adapter, base.as_deref())?;
            let done = match &undo {
                Some(merged) => merge::unmerge(&ModelFolder::open(merged)?, &folder, &out)?,
                None => merge::merge(&folder, &out)?,
            };
            if json {
                return print_json(&done);
            }
            let what = match (undo.is_some(), done.whole) {
                (true, _) => "taken out of",
                (false, true) => "folded into",
                (false, false) => "kept as parts of their own beside",
            };
            print(&format!(
                "{}: {} {what} the weights, {} tensors changed\n",
                out.display(),
                done.method.name(),
                done.folded
            ))
        }
        AdaptersCommand::Import { from, base, encoder, out, json } => {
            vacant(&out)?;
            let method = merge::import(&from, &ModelFolder::open(&base)?, encoder, &out)?;
            match json {
                true => print_json(&serde_json::json!({"method": method, "dir": out})),
                false => print(&format!("{}: {}\n", out.display(), method.name())),
            }
        }
        AdaptersCommand::Export { model, encoder, out, json } => {
            vacant(&out)?;
            let done = export::export(&ModelFolder::open(&model)?, encoder, &out)?;
            if json {
                return print_json(&done);
            }
            let adapter = done.adapter.map_or("no adapter in a known layout".into(), |a| a.display().to_string());
            print(&format!("{}\n{adapter}\n", done.encoder.display()))
        }
        AdaptersCommand::Diff { a, b, json } => diff(&ModelFolder::open(&a)?, &ModelFolder::open(&b)?, json),
    }
}

fn vacant(out: &Path) -> Result<()> {
    match out.exists() && fsio::holds_something(out)? {
        true => Err(Error::Usage(format!("{}: exists; --out names another folder", out.display()))),
        false => Ok(()),
    }
}

fn open(path: &Path, base: Option<&Path>) -> Result<ModelFolder> {
    match (base, ModelFolder::find(path)) {
        (Some(b), Some(dir)) => ModelFolder::open_on(&dir, Some(b)),
        _ => ModelFolder::open(path),
    }
}

/// One adapter in the output of `morec adapters list`.
#[derive(Debug, Serialize)]
struct Entry {
    dir: PathBuf,
    method: &'static str,
    preset: String,
    data: String,
    base: PathBuf,
    /// `found`, or what is wrong with it.
    state: String,
    /// Numbers that are the adapter's own.
    own: u64,
    /// Of its files.
    bytes: u64,
    /// Test metrics, for finished runs.
    test: Option<crate::eval::metrics::Metrics>,
}

fn list(dirs: &[PathBuf], json: bool) -> Result<()> {
    let mut found = vec![];
    for dir in dirs {
        if !dir.is_dir() {
            return Err(Error::Usage(format!("{}: not a folder", dir.display())));
        }
        walk(dir, 4, &mut found)?;
    }
    found.sort();
    let entries = found.iter().map(|d| entry(d)).collect::<Result<Vec<_>>>()?;
    if json {
        return print_json(&entries);
    }
    let mut rows =
        vec![["ADAPTER", "METHOD", "DATA", "NUMBERS", "SIZE", "HR@10", "BASE", ""].map(String::from).to_vec()];
    rows.extend(entries.into_iter().map(|e| {
        let method = if e.method == "none" { e.preset } else { e.method.into() };
        let hr = e.test.and_then(|t| t.get("hr@10").map(|v| format!("{:.2}", 100.0 * v))).unwrap_or_else(|| "-".into());
        let (dir, base) = (e.dir.display().to_string(), e.base.display().to_string());
        vec![dir, method, e.data, e.own.to_string(), bytes(e.bytes), hr, base, e.state]
    }));
    print(&table(&rows))
}

/// Adapters' folders (of runs: the best model's) below `dir`.
fn walk(dir: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<()> {
    if adapter_folder::base_of(dir).is_ok() {
        found.push(dir.into());
        return Ok(());
    }
    if dir.join("best").is_dir() {
        return walk(&dir.join("best"), 0, found);
    }
    if depth == 0 {
        return Ok(());
    }
    for e in std::fs::read_dir(dir).map_err(Error::io(dir))? {
        let path = e.map_err(Error::io(dir))?.path();
        if path.is_dir() && !path.is_symlink() {
            walk(&path, depth - 1, found)?;
        }
    }
    Ok(())
}

fn entry(dir: &Path) -> Result<Entry> {
    // An adapter that cannot be read is listed with the reason.
    let settings = crate::config::load_stored(dir);
    let manifest = folder::manifest(dir)?;
    // The message without its remedy, which commands that use the adapter print.
    let brief = |e: Error| {
        let m = e.to_string();
        let m = m.strip_prefix(&format!("{}: ", dir.display())).unwrap_or(&m);
        m.split("; ").next().unwrap_or(m).to_string()
    };
    let (config, state) = match (settings, folder::find_base(dir, None)) {
        (Err(e), _) => (Default::default(), brief(e)),
        (Ok(c), Err(e)) => (c, brief(e)),
        (Ok(c), Ok(_)) => (c, "found".into()),
    };
    let run = if dir.ends_with("best") { dir.parent().unwrap_or(dir) } else { dir };
    let data = Path::new(&config.data.path).file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    Ok(Entry {
        dir: run.into(),
        method: config.adapter.method.name(),
        preset: config.transfer.preset,
        data,
        base: adapter_folder::base_of(dir)?.path,
        state,
        own: manifest.facts["own"].as_u64().unwrap_or(0),
        bytes: folder::size(dir)?,
        test: experiment::result_of(run).map(|r| r.test.all),
    })
}

fn diff(a: &ModelFolder, b: &ModelFolder, json: bool) -> Result<()> {
    let (rows, same) = merge::difference(a, b)?;
    let one_base = a.base.as_ref().map(|b| &b.digest) == b.base.as_ref().map(|b| &b.digest) && a.base.is_some();
    if json {
        return print_json(&serde_json::json!({"differs": rows, "equal": same, "one_base": one_base}));
    }
    let number = |v: Option<f64>| v.map_or("-".into(), |v| format!("{v:.4}"));
    let mut lines = vec![["TENSOR", "SHAPE", "|A|", "|B|", "|A - B|"].map(String::from).to_vec()];
    lines.extend(rows.iter().map(|d| {
        let shape = d.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
        vec![d.name.clone(), shape, number(d.norms[0]), number(d.norms[1]), number(d.distance)]
    }));
    let bases = if one_base { ", one base" } else { "" };
    print(&(table(&lines) + &format!("{} tensors differ, {same} are equal{bases}\n", rows.len())))
}
