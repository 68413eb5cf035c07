//! Flags that every experiment verb shares, resolved to a [`Config`].

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::experiment::Prepared;
use crate::model::parse_device;
use crate::terminal;
use candle_core::Device;
use clap::Args;
use std::path::{Path, PathBuf};

/// Where settings come from, in order: defaults, `--config` files, `MOREC_DATA` and `MOREC_DEVICE`, `--data` and `--device`,
/// `-s`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// TOML file(s) with settings; later ones win
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Data set folder made by `morec data import` (short for -s data.path=DIR)
    #[arg(short, long, value_name = "DIR", env = "MOREC_DATA")]
    pub data: Option<PathBuf>,
    /// One setting, for example -s train.lr=5e-4 (repeatable; wins over files; `morec settings` lists them)
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
}

/// The size of the thread pool.
#[derive(Debug, Clone, Args)]
pub struct Threads {
    /// Threads to compute with [default: all cores]
    #[arg(long, value_name = "N", env = "MOREC_THREADS", global = true)]
    threads: Option<usize>,
}

impl Threads {
    /// Sets the size of the thread pool; once a process.
    pub fn apply(&self) -> Result<()> {
        match self.threads {
            None => Ok(()),
            Some(0) => Err(Error::Usage("--threads has to be at least 1".into())),
            Some(n) => {
                let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
                pool.map_err(|e| Error::Usage(format!("--threads: {e}")))
            }
        }
    }
}

/// Where models compute.
#[derive(Debug, Clone, Args)]
pub struct DeviceArg {
    /// Compute on cpu, cuda or metal (short for -s device=NAME) [default: cpu]
    #[arg(long, value_name = "NAME", env = "MOREC_DEVICE")]
    device: Option<String>,
}

impl DeviceArg {
    /// Its name, for a configuration.
    pub fn name(&self) -> &str {
        self.device.as_deref().unwrap_or("cpu")
    }
    /// The device itself.
    pub fn open(&self) -> Result<Device> {
        parse_device(self.name())
    }
    /// Refuses any other device for a command whose work is implemented for the CPU only.
    pub fn require_cpu(&self, command: &str) -> Result<()> {
        match self.name() {
            "cpu" => Ok(()),
            other => Err(Error::config("device", format!("{command} computes on the CPU only, not on {other}"))),
        }
    }
}

/// The folder that holds runs without `--out`.
#[derive(Debug, Clone, Args)]
pub struct RunsDir {
    /// Folder that holds runs without --out
    #[arg(long, value_name = "DIR", env = "MOREC_RUNS", default_value = "runs")]
    pub runs: PathBuf,
}

impl Settings {
    /// Whether `data` is that of `MOREC_DATA`, which gives way to other options.
    pub fn data_is_from_environment(&self) -> bool {
        self.data.is_some() && self.data == std::env::var_os("MOREC_DATA").map(PathBuf::from)
    }

    /// The settings on top of `base`.
    pub fn resolve(&self, base: &Config) -> Result<Config> {
        self.threads.apply()?;
        let mut set = vec![];
        if let Some(d) = &self.device.device {
            set.push(format!("device={}", toml::Value::String(d.clone())));
        }
        if let Some(d) = &self.data {
            set.push(format!("data.path={}", toml::Value::String(d.display().to_string())));
        }
        set.extend(self.set.iter().cloned());
        config::load(base, &self.config, &set)
    }
}

/// Opens the data set of a configuration; default cut-offs larger than its catalogue are omitted with a note.
pub fn prepare(config: &mut Config) -> Result<Prepared> {
    let (prepared, note) = Prepared::fit(config)?;
    if let Some(note) = note {
        terminal::message(&format!("note: {note}"));
    }
    Ok(prepared)
}

/// The folder of a run: `--out`, or its name (given or derived) below `runs`.
pub fn run_dir(out: Option<&PathBuf>, runs: &Path, config: &Config, label: &str) -> PathBuf {
    match out {
        Some(o) => o.clone(),
        None if !config.name.is_empty() => runs.join(&config.name),
        None => {
            let data = Path::new(&config.data.path);
            let data = data.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            runs.join(format!("{data}-{label}-seed{}", config.seed))
        }
    }
}
