//! `morec recommend`: top-K for a history of item ids or free titles, or for a whole file of users.

use super::console::encoding;
use super::evaluate::data_dir;
use super::output;
use super::settings::{DeviceArg, Threads};
use crate::data::Dataset;
use crate::data::import::for_each_line;
use crate::error::{DataError, Error, Result};
use crate::eval::{encode, top_k::top_k};
use crate::model::{ItemContent, ModelFolder};
use crate::terminal;
use arrow::array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt32Array};
use clap::Args;
use parquet::arrow::ArrowWriter;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Recommend items for a history, or for a file of users
#[derive(Debug, Args)]
pub struct RecommendArgs {
    /// The run or model folder
    #[arg(value_name = "RUN")]
    run: PathBuf,
    /// Data set whose items are recommended (default: the one the model was trained on)
    #[arg(short, long, value_name = "DIR", env = "MOREC_DATA")]
    data: Option<PathBuf>,
    /// Item ids of the history, oldest first, separated by commas
    #[arg(long, value_name = "ID,…", value_delimiter = ',')]
    history: Vec<String>,
    /// One more item id of the history, taken as it is: for ids with commas or spaces (repeatable, after --history)
    #[arg(long, value_name = "ID")]
    item: Vec<String>,
    /// A title in free text, after the ids (repeatable, oldest first; text models only)
    #[arg(long, value_name = "TEXT")]
    title: Vec<String>,
    /// A file of users to recommend for, histories oldest first: lines `user⇥item item …`, or JSON lines
    /// {"user": "…", "items": ["…", …]}; plain or gzip
    #[arg(long, value_name = "FILE", conflicts_with_all = ["history", "item", "title"])]
    users: Option<PathBuf>,
    /// Recommend for every user of the data set
    #[arg(long, conflicts_with_all = ["history", "item", "title", "users"])]
    all_users: bool,
    /// Where recommendations of many users go: FILE.parquet or FILE.jsonl
    #[arg(short, long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// How many items
    #[arg(short, default_value_t = 10)]
    k: usize,
    /// Recommend items of the history, too
    #[arg(long)]
    with_history: bool,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// One recommended item.
#[derive(Debug, Clone, Serialize)]
struct Hit {
    rank: usize,
    item: String,
    title: String,
    score: f32,
}

/// Candidates and their raw ids and titles.
struct CandidateIndex {
    ids: Vec<String>,
    titles: Vec<String>,
    place: HashMap<String, u32>,
}

impl CandidateIndex {
    fn new(model: &ModelFolder, data: &Dataset) -> Result<Self> {
        let title: HashMap<&str, &str> =
            data.items.ids.iter().zip(&data.items.text).map(|(i, t)| (i.as_str(), t.as_str())).collect();
        let ids = model.items.clone().unwrap_or_else(|| data.items.ids.clone());
        if model.items.is_some()
            && let Some(strange) = ids.iter().find(|i| !title.contains_key(i.as_str()))
        {
            let m = format!("an ID model; its item `{strange}` is not in this data set: ID tables do not transfer");
            return Err(Error::model(&model.dir, m));
        }
        let titles = ids.iter().map(|i| title.get(i.as_str()).copied().unwrap_or_default().to_string()).collect();
        let place = ids.iter().enumerate().map(|(i, id)| (id.clone(), i as u32)).collect();
        Ok(Self { ids, titles, place })
    }
    fn find(&self, id: &str) -> Result<u32> {
        self.place.get(id.trim()).copied().ok_or_else(|| {
            let near =
                self.place.keys().max_by(|a, b| strsim::jaro_winkler(a, id).total_cmp(&strsim::jaro_winkler(b, id)));
            let near = near.map_or(String::new(), |n| format!("; the nearest id is `{n}`"));
            Error::Usage(format!("no item `{id}` in this catalogue{near}"))
        })
    }
    fn hits(&self, found: &[(u32, f32)]) -> Vec<Hit> {
        let hit = |(r, &(i, score)): (usize, &(u32, f32))| {
            let i = i as usize;
            Hit { rank: r + 1, item: self.ids[i].clone(), title: self.titles[i].clone(), score }
        };
        found.iter().enumerate().map(hit).collect()
    }
}

/// Runs `morec recommend`.
pub fn run(args: RecommendArgs) -> Result<()> {
    args.threads.apply()?;
    let many = args.users.is_some() || args.all_users;
    if args.k == 0 {
        return Err(Error::Usage("-k has to be at least 1".into()));
    }
    if !many && args.history.is_empty() && args.item.is_empty() && args.title.is_empty() {
        return Err(Error::Usage(
            "give a history: --history ID,ID, --item ID and/or --title TEXT, or --users FILE, or --all-users".into(),
        ));
    }
    let folder = ModelFolder::open(&args.run)?;
    let data = Dataset::open(&data_dir(args.data.as_ref(), &folder)?)?;
    let candidates_by_id = CandidateIndex::new(&folder, &data)?;
    if !args.title.is_empty() && folder.encoders.text().is_none() {
        return Err(Error::Usage("--title needs a model that reads texts; this one does not".into()));
    }
    let out = match (&args.out, many) {
        (Some(o), true) => Some((o, Format::of(o)?)),
        (None, true) => return Err(Error::Usage("many users: --out FILE.parquet or FILE.jsonl says where to".into())),
        (Some(_), false) => {
            return Err(Error::Usage("--out is for --users and --all-users; a single history is printed".into()));
        }
        (None, false) => None,
    };
    let model = folder.build(&args.device.open()?)?;
    // Free titles are appended to the catalogue: they can be part of a history but are no candidates.
    let texts: Vec<String> = candidates_by_id.titles.iter().chain(&args.title).cloned().collect();
    let content = ItemContent {
        texts: &texts,
        ids: &candidates_by_id.ids,
        images: data.images.as_ref(),
        ..ItemContent::whole(&data)
    };
    let items = encode::catalogue(
        &model,
        &model.features_with_progress(&content, &encoding("pictures"))?,
        &encoding("catalogue"),
    )?;
    let d = model.item.dim();
    let scored = encode::candidates(&model, &items);
    let candidates = &scored[..candidates_by_id.ids.len() * d];
    let best = |state: &[f32], history: &[u32]| {
        candidates_by_id.hits(&top_k(state, candidates, args.k, if args.with_history { &[] } else { history }))
    };
    let Some((out, format)) = out else {
        let given = args.history.iter().chain(&args.item);
        let mut history = given.map(|id| candidates_by_id.find(id)).collect::<Result<Vec<u32>>>()?;
        history.extend((0..args.title.len()).map(|i| (candidates_by_id.ids.len() + i) as u32));
        let state = encode::states(&model, &items, &[&history], None)?;
        let hits = best(&state, &history);
        if args.json {
            return output::print_json(&hits);
        }
        let mut lines = vec![["#", "score", "item", "title"].map(String::from).to_vec()];
        lines.extend(hits.into_iter().map(|h| vec![h.rank.to_string(), format!("{:.3}", h.score), h.item, h.title]));
        return output::print(&output::table(&lines));
    };
    let mut users = match &args.users {
        Some(file) => read_users(file, &candidates_by_id)?,
        None => (0..data.users.len())
            .map(|u| {
                let row = data
                    .seqs
                    .row(u)
                    .iter()
                    .filter_map(|&i| candidates_by_id.place.get(&data.items.ids[i as usize]).copied());
                (data.users[u].clone(), row.collect())
            })
            .filter(|(_, h): &(String, Vec<u32>)| !h.is_empty())
            .collect(),
    };
    if let (Some(known), true) = (&folder.users, args.all_users) {
        // Users with too few interactions for training have no user vector.
        let known: HashSet<&String> = known.iter().collect();
        let before = users.len();
        users.retain(|(u, _)| known.contains(u));
        if users.len() < before {
            terminal::message(&format!(
                "{} users left out: the model knows its users by id, and these were not trained on",
                before - users.len()
            ));
        }
    }
    let histories: Vec<&[u32]> = users.iter().map(|(_, h)| h.as_slice()).collect();
    let rows = rows_of(&folder, &users)?;
    let states = encode::states(&model, &items, &histories, rows.as_deref())?;
    let all: Vec<Vec<Hit>> = states.par_chunks_exact(d).zip(&histories).map(|(s, h)| best(s, h)).collect();
    format.write(out, &users, &all)?;
    let summary = serde_json::json!({ "users": users.len(), "k": args.k, "out": out.display().to_string() });
    if args.json {
        output::print_json(&summary)
    } else {
        output::print(&format!("{} users → {}\n", users.len(), out.display()))
    }
}

/// Rows of the users in the model's user table, if it has one; an unknown user is an error.
fn rows_of(folder: &ModelFolder, users: &[(String, Vec<u32>)]) -> Result<Option<Vec<u32>>> {
    let Some(known) = &folder.users else { return Ok(None) };
    let place: HashMap<&str, u32> = known.iter().enumerate().map(|(i, u)| (u.as_str(), i as u32)).collect();
    let row = |(user, _): &(String, Vec<u32>)| {
        place.get(user.as_str()).copied().ok_or_else(|| {
            let m = format!("it knows its users by id, and `{user}` is none of them (users it was trained on)");
            Error::model(&folder.dir, m)
        })
    };
    users.iter().map(row).collect::<Result<_>>().map(Some)
}

/// One line of a users file as JSON.
#[derive(Deserialize)]
struct JsonUser {
    user: String,
    items: Vec<String>,
}

/// Reads lines `user⇥item item …` or JSON lines; every line is checked before anything is computed.
fn read_users(file: &Path, candidates_by_id: &CandidateIndex) -> Result<Vec<(String, Vec<u32>)>> {
    let mut users = vec![];
    for_each_line(file, |n, line| {
        let bad = |field: &str, m: String| DataError::new(file, m).line(n).field(field);
        let (user, items) = match line.starts_with('{') {
            true => {
                let json: JsonUser = serde_json::from_str(line).map_err(|e| {
                    bad("user", e.to_string()).remedy("write {\"user\": \"…\", \"items\": [\"…\"]}, ids as strings")
                })?;
                (json.user, json.items)
            }
            false => {
                let (user, items) = line.split_once('\t').ok_or_else(|| {
                    bad("user", "no tab between user and items".into()).remedy("write `user⇥item item …`, oldest first")
                })?;
                (user.to_string(), items.split_whitespace().map(String::from).collect())
            }
        };
        let known = |id: &String| {
            let remedy = "remove it or import its item; ids with spaces need JSON lines";
            candidates_by_id.find(id).map_err(|e| bad("items", e.to_string()).remedy(remedy).into())
        };
        let history = items.iter().map(known).collect::<Result<Vec<u32>>>()?;
        if history.is_empty() {
            return Err(bad("items", "the history is empty".into()).remedy("give at least one item").into());
        }
        users.push((user, history));
        Ok(())
    })?;
    Ok(users)
}

/// Output format of the recommendations of many users.
#[derive(Clone, Copy)]
enum Format {
    Parquet,
    Jsonl,
}

impl Format {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|e| e.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("jsonl") => Ok(Self::Jsonl),
            _ => Err(Error::Usage(format!("--out {}: has to end in .parquet or .jsonl", path.display()))),
        }
    }
    fn write(self, path: &Path, users: &[(String, Vec<u32>)], hits: &[Vec<Hit>]) -> Result<()> {
        crate::fsio::write_atomic(path, |w| match self {
            Self::Jsonl => users.iter().zip(hits).try_for_each(|((user, _), hits)| {
                let line = serde_json::json!({ "user": user, "items": hits });
                writeln!(w, "{line}").map_err(Error::io(path))
            }),
            Self::Parquet => {
                let rows = || users.iter().zip(hits).flat_map(|((u, _), hs)| hs.iter().map(move |h| (u, h)));
                let columns: [(&str, ArrayRef); 5] = [
                    ("user", Arc::new(StringArray::from_iter_values(rows().map(|(u, _)| u)))),
                    ("rank", Arc::new(UInt32Array::from_iter_values(rows().map(|(_, h)| h.rank as u32)))),
                    ("item", Arc::new(StringArray::from_iter_values(rows().map(|(_, h)| &h.item)))),
                    ("title", Arc::new(StringArray::from_iter_values(rows().map(|(_, h)| &h.title)))),
                    ("score", Arc::new(Float32Array::from_iter_values(rows().map(|(_, h)| h.score)))),
                ];
                let batch = RecordBatch::try_from_iter(columns).map_err(|e| Error::model(path, e.to_string()))?;
                let bad = |e: parquet::errors::ParquetError| Error::model(path, e.to_string());
                let mut out = ArrowWriter::try_new(w, batch.schema(), None).map_err(bad)?;
                out.write(&batch).map_err(bad)?;
                out.close().map_err(bad)?;
                Ok(())
            }
        })
    }
}
