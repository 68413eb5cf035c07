//! A run's folder: when it may be made, gone on with, or replaced; one process at a time.

use super::prepare::Prepared;
use super::result::ExistingRun;
use crate::config::{Config, Schedule, first_difference};
use crate::error::{Error, Result};
use crate::fsio::{self, Manifest};
use crate::item::EncoderFolder;
use crate::model::{Blueprint, ModelFolder};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

const FORMAT: u32 = 1;
const LOCK: &str = ".lock";

/// Digests of all inputs of a run: data set, source, encoders.
pub(super) fn inputs(
    data: &Prepared,
    source: Option<&ModelFolder>,
    blueprint: &Blueprint,
) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::from([("data".to_string(), data.data.digest.clone())]);
    if let Some(s) = source {
        all.insert("source".into(), s.digest.clone());
    }
    for encoder in blueprint.encoders.iter() {
        let folder = EncoderFolder::checkpoint_folder(encoder.modality());
        for (name, text) in encoder.files() {
            all.insert(format!("{folder}/{name}"), fsio::sha256_bytes(text.as_bytes()));
        }
        if let Some(w) = encoder.weights() {
            all.insert(format!("{folder}/weights"), w.digest());
        }
    }
    Ok(all)
}

/// Digest of the data set that a run was made from; `None` for a folder that is no run.
pub fn data_digest(dir: &Path) -> Option<String> {
    Manifest::read(dir, "run", FORMAT, "").ok()?.inputs.remove("data")
}

/// Settings that may change when a run is resumed: how long it trains and how often it saves.
/// (A cosine schedule is made from the number of epochs, and validations from their rhythm.)
fn free_on_resume(config: &Config) -> Vec<&'static str> {
    let mut free =
        vec!["name", "device", "train.patience", "train.checkpoint_steps", "eval.memory_mb", "item.cache_mb"];
    // The digests of what these name are compared; how a path is spelled, or where it lies now, does not matter.
    free.extend(["data.path", "item.model", "item.image.model", "transfer.source"]);
    if config.train.schedule == Schedule::Constant && config.train.eval_every == 1 {
        free.push("train.epochs");
    }
    free
}

/// Creates or opens the run folder and writes its manifest and settings. Returns whether to resume, and a lock that excludes
/// other processes until it is dropped. `needed`: folders that must not be removed.
pub(super) fn start(
    dir: &Path,
    config: &Config,
    data: &Prepared,
    inputs: &BTreeMap<String, String>,
    mode: ExistingRun,
    needed: &[PathBuf],
) -> Result<(bool, File)> {
    let is_run = dir.join(fsio::MANIFEST).exists();
    if !is_run && dir.exists() && fsio::holds_something(dir)? {
        return Err(Error::Usage(format!("{}: not empty and not a run; --out names another folder", dir.display())));
    }
    if is_run {
        Manifest::read(dir, "run", FORMAT, "--out names another folder")?;
        if mode == ExistingRun::New && dir.join("config.toml").exists() {
            let m = "this run exists; --resume goes on with it, --force starts it again, --out names another";
            return Err(Error::Usage(format!("{}: {m}", dir.display())));
        }
    }
    std::fs::create_dir_all(dir).map_err(Error::io(dir))?;
    let lock = lock(dir)?;
    fsio::clear_unfinished(dir)?;
    if is_run && mode == ExistingRun::Resume && dir.join("config.toml").exists() {
        may_resume(dir, config, inputs)?;
        fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(config)?.as_bytes())?;
        return Ok((true, lock));
    }
    if is_run {
        let near = [&config.transfer.source, &config.data.path].into_iter().filter(|p| !p.is_empty()).map(Path::new);
        if let Some(held) = near.chain(needed.iter().map(PathBuf::as_path)).find(|p| holds(dir, p)) {
            let m = format!("--force would remove `{}`, which this run needs", held.display());
            return Err(Error::Usage(format!("{}: {m}", dir.display())));
        }
        clear(dir)?;
    }
    let mut manifest = Manifest::new("run", FORMAT);
    manifest.inputs = inputs.clone();
    manifest.config = serde_json::to_value(config).unwrap_or_default();
    manifest.facts = serde_json::json!({
        "data": data.data.name,
        "users": data.split.users.len(),
        "items": data.split.items.len(),
        "train_events": data.split.train_events(),
        "threads": rayon::current_num_threads(),
    });
    manifest.seal(dir, &[])?;
    // Written last: a folder without settings is no run.
    fsio::write_bytes(&dir.join("config.toml"), crate::config::to_toml(config)?.as_bytes())?;
    Ok((false, lock))
}

fn lock(dir: &Path) -> Result<File> {
    let path = dir.join(LOCK);
    let file = File::create(&path).map_err(Error::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err(Error::Usage(format!("{}: another process is working on this run", dir.display())))
        }
        // The file system does not support locks.
        Err(std::fs::TryLockError::Error(_)) => Ok(file),
    }
}

fn may_resume(dir: &Path, config: &Config, inputs: &BTreeMap<String, String>) -> Result<()> {
    let old = Manifest::read(dir, "run", FORMAT, "start it again with --force")?;
    let before = crate::config::load_stored(dir)?;
    let changed = first_difference(&before, config, &free_on_resume(config))?.or_else(|| {
        let mut names = inputs.keys().chain(old.inputs.keys());
        names.find(|k| inputs.get(*k) != old.inputs.get(*k)).map(|k| format!("input `{k}`"))
    });
    match changed {
        None => Ok(()),
        Some(what) => {
            let m = format!("{what} differs from the run's; give the same, or --force to start again");
            Err(Error::Usage(format!("{}: cannot resume: {m}", dir.display())))
        }
    }
}

/// Whether `inner` is `dir` or lies in it.
fn holds(dir: &Path, inner: &Path) -> bool {
    match (dir.canonicalize(), inner.canonicalize()) {
        (Ok(d), Ok(i)) => i.starts_with(d),
        _ => false,
    }
}

/// Removes the files of a run and no others; the settings first, so that a half-removed run is never resumed.
fn clear(dir: &Path) -> Result<()> {
    for name in ["config.toml", "last", "best", "metrics.jsonl", "tensorboard", "result.json", "ranks.parquet"] {
        let path = dir.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(Error::io(&path))?;
        } else if path.exists() {
            std::fs::remove_file(&path).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}
