//! `morec data synth`: invented platforms.

use super::output;
use super::progress::Progress;
use crate::data::synth::{self, Platform, SynthConfig};
use crate::error::{Error, Result};
use clap::Args;
use serde_json::json;
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// `morec data synth …`.
#[derive(Debug, Args)]
pub struct SynthArgs {
    /// Where the two data sets go: DIR/source (media) and DIR/target (goods)
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Users of the source platform
    #[arg(long, default_value_t = 6000, value_name = "N")]
    pub users: usize,
    /// Items of the source platform
    #[arg(long, default_value_t = 4000, value_name = "N")]
    pub items: usize,
    /// Users of the target platform; 0: no target
    #[arg(long, default_value_t = 2000, value_name = "N")]
    pub target_users: usize,
    /// Items of the target platform
    #[arg(long, default_value_t = 3000, value_name = "N")]
    pub target_items: usize,
    /// Mean number of events a user
    #[arg(long, default_value_t = 8.0, value_name = "X")]
    pub mean_events: f64,
    /// Share of events that follow popularity alone
    #[arg(long, default_value_t = 0.1, value_name = "X")]
    pub noise: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Draw a cover for each item
    #[arg(long)]
    pub covers: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `morec data synth`.
pub fn run(args: &SynthArgs) -> Result<()> {
    let config = |platform, users, items| SynthConfig {
        platform,
        users,
        items,
        mean_events: args.mean_events,
        noise: args.noise,
        seed: args.seed,
        covers: args.covers,
    };
    let mut plans = vec![("source", config(Platform::Media, args.users, args.items))];
    if args.target_users > 0 {
        plans.push(("target", config(Platform::Goods, args.target_users, args.target_items)));
    }
    plans.iter().try_for_each(|(_, c)| c.check())?;
    let mut told = vec![];
    for (name, config) in &plans {
        let dir = args.out.join(name);
        let facts = make(config, &dir)?;
        let count = |f: &str| facts[f].as_u64().unwrap_or(0);
        told.push(json!({ "dir": dir, "facts": facts }));
        if !args.json {
            let (u, i, n) = (count("users"), count("items"), count("interactions"));
            output::print(&format!("{}: {u} users, {i} items, {n} interactions\n", dir.display()))?;
        }
    }
    if args.json { output::print_json(&told) } else { Ok(()) }
}

/// Writes one platform with progress on stderr; returns the manifest's facts.
pub fn make(config: &SynthConfig, dir: &Path) -> Result<serde_json::Value> {
    if let Some(parent) = dir.parent() {
        std::fs::create_dir_all(parent).map_err(Error::io(parent))?;
    }
    let bar = RefCell::new(Progress::new(&format!("inventing {}", dir.display()), config.users as u64));
    let manifest = synth::write(config, dir, &|done, _| bar.borrow().set(done as u64))?;
    bar.borrow().finish();
    Ok(manifest.facts)
}
