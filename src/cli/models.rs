//! `morec models`: list, fetch and verify pre-trained models.

use super::output::{bytes, print, print_json, table};
use crate::error::Result;
use crate::hub::{self, Card, HubOptions, ModelFolder, ModelName, Origin, Report};
use clap::{Args, Subcommand};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// List, fetch and check pre-trained models
#[derive(Debug, Args)]
pub struct ModelsArgs {
    #[command(subcommand)]
    command: ModelsCommand,
}

#[derive(Debug, Subcommand)]
enum ModelsCommand {
    /// Cards of models/ and of the program, and what is in the Hugging Face cache
    List {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Fetch a model from the hub into the Hugging Face cache
    ///
    /// HF_ENDPOINT, HF_TOKEN, HF_HOME, HF_HUB_CACHE and HF_HUB_OFFLINE are honoured.
    Pull {
        /// A card's name or a hub repository `owner/name`, each with an optional `@revision`
        name: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read every file of a model and say what is wrong with it
    Verify {
        /// A model's folder or name; nothing is fetched
        name_or_dir: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Runs `morec models …`.
///
/// # Errors
/// Those of [`hub::pull`], [`hub::resolve`] and [`hub::verify`].
pub fn run(args: ModelsArgs) -> Result<()> {
    let options = HubOptions::from_env()?;
    match args.command {
        ModelsCommand::List { json } => list(&options, json),
        ModelsCommand::Pull { name, json } => pull(&name, &options, json),
        ModelsCommand::Verify { name_or_dir, json } => verify(&name_or_dir, options, json),
    }
}

/// One line of `morec models list`.
#[derive(Debug, Serialize)]
struct Entry {
    name: String,
    /// `folder` (of the working folder), `models`, `cache`, `incomplete`, `hub` (a card whose files are not here), or `-`
    /// (the same, and its card names no hub).
    place: &'static str,
    dir: Option<PathBuf>,
    bytes: Option<u64>,
    architecture: Option<String>,
    licence: Option<String>,
    hub: Option<String>,
    commit: Option<String>,
    summary: Option<String>,
}

fn list(options: &HubOptions, json: bool) -> Result<()> {
    let entries = entries(options)?;
    if json {
        return print_json(&entries);
    }
    let mut rows = vec![["NAME", "PLACE", "SIZE", "ARCHITECTURE", "LICENCE", "HUB"].map(String::from).to_vec()];
    let dash = |text: Option<String>| text.unwrap_or_else(|| "-".into());
    rows.extend(entries.into_iter().map(|e| {
        vec![e.name, e.place.into(), dash(e.bytes.map(bytes)), dash(e.architecture), dash(e.licence), dash(e.hub)]
    }));
    print(&table(&rows))
}

fn entries(options: &HubOptions) -> Result<Vec<Entry>> {
    // Listing neither downloads nor reads weight files.
    let look = HubOptions { offline: true, check_digests: false, progress: false, ..options.clone() };
    let mut entries: Vec<Entry> = hub::cards(&options.models)?.iter().map(|card| carded(card, &look)).collect();
    let known = |entries: &[Entry], name: &str| entries.iter().any(|e| e.name == name);
    for name in hub::model_folders(&options.models) {
        if !known(&entries, &name)
            && let Ok(folder) = ModelFolder::open(&name, &options.models.join(&name), Origin::Project)
        {
            entries.push(found(name, &folder, None));
        }
    }
    for cached in hub::cached_models(options) {
        let of_card = |e: &Entry| e.commit.as_ref() == Some(&cached.commit) && e.dir.as_ref() == Some(&cached.dir);
        if entries.iter().any(of_card) {
            continue;
        }
        let name =
            if cached.revision == "main" { cached.id.clone() } else { format!("{}@{}", cached.id, cached.revision) };
        match cached.open(&name) {
            Ok(folder) => entries.push(found(name, &folder, None)),
            // Models of other kinds are not listed; a folder with a config.json is an incomplete download.
            Err(_) if cached.dir.join("config.json").is_file() => entries.push(Entry {
                place: "incomplete",
                commit: Some(cached.commit),
                hub: Some(cached.id),
                dir: Some(cached.dir),
                ..Entry::named(name)
            }),
            Err(_) => {}
        }
    }
    Ok(entries)
}

impl Entry {
    fn named(name: String) -> Self {
        Self {
            name,
            place: "-",
            dir: None,
            bytes: None,
            architecture: None,
            licence: None,
            hub: None,
            commit: None,
            summary: None,
        }
    }
}

fn carded(card: &Card, look: &HubOptions) -> Entry {
    match hub::resolve(&card.name, look) {
        Ok(folder) => found(card.name.clone(), &folder, Some(card)),
        Err(_) => Entry {
            place: if card.hub.is_some() { "hub" } else { "-" },
            architecture: Some(card.architecture.clone()),
            licence: Some(card.licence.clone()),
            hub: card.hub.as_ref().map(|h| h.id.clone()),
            summary: Some(card.summary.clone()),
            ..Entry::named(card.name.clone())
        },
    }
}

fn found(name: String, folder: &ModelFolder, card: Option<&Card>) -> Entry {
    let model_type = || folder.config().ok()?.get("model_type")?.as_str().map(String::from);
    let (place, id, commit) = match &folder.origin {
        Origin::Cache { id, commit } | Origin::Hub { id, commit } => ("cache", Some(id.clone()), Some(commit.clone())),
        Origin::Project => ("models", None, None),
        Origin::Folder => ("folder", None, None),
        Origin::Embedded => ("embedded", None, None),
    };
    Entry {
        place,
        dir: Some(folder.dir.clone()),
        bytes: Some(folder.bytes()),
        architecture: card.map(|c| c.architecture.clone()).or_else(model_type),
        licence: card.map(|c| c.licence.clone()),
        hub: id.or_else(|| card.and_then(|c| c.hub.as_ref()).map(|h| h.id.clone())),
        commit,
        summary: card.map(|c| c.summary.clone()),
        ..Entry::named(name)
    }
}

fn pull(name: &str, options: &HubOptions, json: bool) -> Result<()> {
    let pulled = hub::pull(name, options)?;
    if json {
        return print_json(&serde_json::json!({
            "name": name,
            "dir": pulled.folder.dir,
            "origin": pulled.folder.origin,
            "downloaded": pulled.downloaded,
            "bytes": pulled.bytes,
            "notes": pulled.notes,
        }));
    }
    let what = match pulled.downloaded.len() {
        0 => "everything was here already".into(),
        n => format!("{n} files, {}", bytes(pulled.bytes)),
    };
    let notes: String = pulled.notes.iter().map(|n| format!("note: {n}\n")).collect();
    print(&format!("{}: {what}\n{notes}", pulled.folder.dir.display()))
}

fn verify(name: &str, options: HubOptions, json: bool) -> Result<()> {
    let options = HubOptions { offline: true, check_digests: false, ..options };
    let report = if Path::new(name).is_dir() {
        hub::inspect(Path::new(name), None)?
    } else {
        let local = options.models.join(ModelName::parse(name)?.id);
        // A damaged folder of the project is to be reported on, not refused.
        match hub::resolve(name, &options) {
            Err(_) if hub::model_folders(&options.models).iter().any(|f| f == name) => hub::inspect(&local, None)?,
            folder => {
                let folder = folder?;
                hub::inspect(&folder.dir, folder.card.as_ref())?
            }
        }
    };
    if json {
        print_json(&report)?;
    } else {
        print(&readable(&report))?;
    }
    report.into_result().map(|_| ())
}

fn readable(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .files
        .iter()
        .map(|f| {
            let checked = f.checked.map_or_else(|| "no digest known".into(), |by| format!("compared with the {by}"));
            vec![f.name.clone(), bytes(f.bytes), f.sha256.clone(), checked]
        })
        .collect();
    let dtypes: Vec<String> = report.dtypes.iter().map(|(dtype, n)| format!("{n} {dtype}")).collect();
    format!(
        "{}: {}, {} tensors ({}), {} parameters\n{}{}\n",
        report.dir.display(),
        report.model_type.as_deref().unwrap_or("unknown architecture"),
        report.tensors,
        dtypes.join(", "),
        report.parameters,
        table(&rows),
        if report.problems.is_empty() { "sound" } else { "not sound" },
    )
}
