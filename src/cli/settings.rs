//! Flags that every experiment verb shares, resolved to a [`Config`].

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::experiment::Prepared;
use crate::terminal;
use clap::Args;
use std::path::PathBuf;

/// Where settings come from, in order: defaults, `--config` files, `--data`, `-s`.
#[derive(Debug, Clone, Args)]
pub struct Settings {
    /// TOML file(s) with settings; later ones win
    #[arg(short, long = "config", value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// Data set folder made by `morec data import` (short for -s data.path=DIR)
    #[arg(short, long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// One setting, for example -s train.lr=5e-4 (repeatable; wins over files; `morec settings` lists them)
    #[arg(short, long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Threads to compute with (default: all cores)
    #[arg(long, value_name = "N")]
    pub threads: Option<usize>,
}

impl Settings {
    /// The settings on top of `base`.
    pub fn resolve(&self, base: &Config) -> Result<Config> {
        use_threads(self.threads)?;
        let mut set = vec![];
        if let Some(d) = &self.data {
            set.push(format!("data.path={}", toml::Value::String(d.display().to_string())));
        }
        set.extend(self.set.iter().cloned());
        config::load(base, &self.config, &set)
    }
}

/// The data set of a configuration; says which default cut-offs its catalogue is too small for, and leaves them out.
pub fn prepare(config: &mut Config) -> Result<Prepared> {
    let (prepared, note) = Prepared::fit(config)?;
    if let Some(note) = note {
        terminal::message(&format!("note: {note}"));
    }
    Ok(prepared)
}

/// Sets the size of the thread pool; once a process.
pub fn use_threads(threads: Option<usize>) -> Result<()> {
    match threads {
        None => Ok(()),
        Some(0) => Err(Error::Usage("--threads has to be at least 1".into())),
        Some(n) => {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(n).build_global();
            pool.map_err(|e| Error::Usage(format!("--threads: {e}")))
        }
    }
}

/// The folder of a run: `--out`, or `runs/<name>`, or a name made of what it is.
pub fn run_dir(out: Option<&PathBuf>, config: &Config, label: &str) -> PathBuf {
    match out {
        Some(o) => o.clone(),
        None if !config.name.is_empty() => PathBuf::from("runs").join(&config.name),
        None => {
            let data = std::path::Path::new(&config.data.path);
            let data = data.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            PathBuf::from("runs").join(format!("{data}-{label}-seed{}", config.seed))
        }
    }
}
