//! `morec data`: import raw files, describe and validate data sets.

use super::output::{print, print_json};
use super::progress::Progress;
use super::settings::Threads;
use super::synth::SynthArgs;
use crate::data::import::feed::{Attributes, EventColumns};
use crate::data::import::generic::{ColumnMap, Generic};
use crate::data::import::morec::MoRec;
use crate::data::import::ninerec::{Language, NineRec};
use crate::data::import::recbole::{self, RecBole};
use crate::data::import::table::Layout;
use crate::data::import::{Imported, InputFiles, Outcome, Pictures, Source, import};
use crate::data::policy::{Encoding, Policy, TimeUnit, UnknownItems};
use crate::data::{Dataset, Description, Notes, validate};
use crate::error::{Error, Result};
use crate::terminal;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::json;
use std::path::{Path, PathBuf};

/// `morec data …`.
#[derive(Debug, Args)]
pub struct DataArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: DataCommand,
    #[command(flatten)]
    threads: Threads,
}

/// The verbs of `morec data`.
#[derive(Debug, Subcommand)]
pub enum DataCommand {
    /// Turn raw files into a data set folder
    Import(Box<ImportArgs>),
    /// Invent two platforms that share neither users nor items, with titles that tell
    Synth(SynthArgs),
    /// Print a data set's statistics
    Describe(FolderArgs),
    /// Check a data set folder thoroughly: digests, ranges, order, ids, text
    Validate(FolderArgs),
}

/// A data set folder.
#[derive(Debug, Args)]
pub struct FolderArgs {
    /// The data set's folder
    pub dir: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// The layouts that can be imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// RecBole atomic files (.inter, .item, .user)
    Recbole,
    /// MoRec, Adapter4Rec, IISAN (user⇥items, id⇥title)
    Morec,
    /// NineRec (_pair.csv or _behaviour.tsv, _item.csv)
    Ninerec,
    /// Comma-separated, with a column map
    Csv,
    /// Tab-separated, with a column map
    Tsv,
    /// JSON lines, with a column map
    Jsonl,
    /// Parquet, with a column map
    Parquet,
}

/// `morec data import …`.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Layout of the raw files
    #[arg(long, value_enum)]
    pub format: Format,
    /// A folder with the raw files, or the files
    pub inputs: Vec<PathBuf>,
    /// Where the data set goes, for example datasets/NAME
    #[arg(long)]
    pub out: PathBuf,
    /// The file of interactions, where it cannot be told by its name
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub interactions: Option<PathBuf>,
    /// The file of items
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub items: Option<PathBuf>,
    /// The file of users
    #[arg(long, value_name = "FILE", help_heading = "Files")]
    pub users: Option<PathBuf>,
    /// Column with the user id [default: user_id]
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub user_col: Option<String>,
    /// Column with the item id [default: item_id]
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub item_col: Option<String>,
    /// Column with the timestamp; generic formats without it take the file's order
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub time_col: Option<String>,
    /// Column with the rating
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub rating_col: Option<String>,
    /// Items file: column with the id [default: as --item-col]
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub item_id_col: Option<String>,
    /// Items file: columns with the text, joined by a space
    #[arg(long, alias = "text-fields", value_name = "COL,…", value_delimiter = ',', help_heading = "Columns")]
    pub text_cols: Vec<String>,
    /// Items file: columns to keep as attributes [default: all others]
    #[arg(long, value_name = "COL,…", value_delimiter = ',', help_heading = "Columns")]
    pub attribute_cols: Option<Vec<String>>,
    /// Users file: column with the id [default: as --user-col]
    #[arg(long, value_name = "COL", help_heading = "Columns")]
    pub user_id_col: Option<String>,
    /// Users file: columns to keep as attributes [default: all others]
    #[arg(long, value_name = "COL,…", value_delimiter = ',', help_heading = "Columns")]
    pub user_attribute_cols: Option<Vec<String>>,
    /// NineRec: order of the columns of _pair.csv, for example user,item,timestamp (_ = ignore)
    #[arg(long, value_name = "COL,…", value_delimiter = ',', help_heading = "Columns")]
    pub pair_columns: Vec<String>,
    /// NineRec: which of the two texts
    #[arg(long, value_enum, default_value = "en", help_heading = "Columns")]
    pub language: Language,
    /// CSV, TSV: the files have no header; columns are numbered from 1
    #[arg(long, help_heading = "Columns")]
    pub no_header: bool,
    /// CSV: quotes are characters like others
    #[arg(long, help_heading = "Columns")]
    pub no_quotes: bool,
    /// Pictures of the items: a folder of files named by item id, a Parquet file, an LMDB [default: NineRec's …_cover]
    #[arg(long, value_name = "PATH", help_heading = "Pictures")]
    pub images: Option<PathBuf>,
    /// Parquet of pictures: column with the item id
    #[arg(long, value_name = "COL", default_value = "item_id", help_heading = "Pictures")]
    pub image_id_col: String,
    /// Parquet of pictures: column with the bytes
    #[arg(long, value_name = "COL", default_value = "image", help_heading = "Pictures")]
    pub image_col: String,
    /// Share of pictures that may be unusable (broken, not pictures, too large); more is an error
    #[arg(long, value_name = "SHARE", default_value_t = 0.01, help_heading = "Pictures")]
    pub bad_images: f64,
    /// Leave pictures out
    #[arg(long, conflicts_with = "images", help_heading = "Pictures")]
    pub no_images: bool,
    /// Leave out interactions rated lower
    #[arg(long, value_name = "R", help_heading = "Policies")]
    pub min_rating: Option<f64>,
    /// Interactions with items that the items file lacks
    #[arg(long, value_enum, default_value = "keep", help_heading = "Policies")]
    pub unknown_items: UnknownItems,
    /// Drop copies of an interaction with the same user, item and timestamp
    #[arg(long, help_heading = "Policies")]
    pub dedup: bool,
    /// Leave out up to N malformed rows
    #[arg(long, value_name = "N", default_value_t = 0, help_heading = "Policies")]
    pub skip_malformed: u64,
    /// Encoding of text files
    #[arg(long, value_enum, default_value = "utf8", help_heading = "Policies")]
    pub encoding: Encoding,
    /// Unit of the timestamps
    #[arg(long, value_enum, default_value = "auto", help_heading = "Policies")]
    pub time_unit: TimeUnit,
    /// Keep text as it is: HTML entities and white space stay
    #[arg(long, help_heading = "Policies")]
    pub raw_text: bool,
    /// Leave out rows whose user or item id means that it is missing: nan, NaN, None, null, NULL, \N, NA, `<NA>`
    #[arg(long, help_heading = "Policies")]
    pub drop_null_ids: bool,
    /// Import again even when nothing has changed
    #[arg(long)]
    pub force: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs `morec data …`.
///
/// # Errors
/// Errors of the subcommand; no partially written data set is left behind.
pub fn run(args: DataArgs) -> Result<()> {
    args.threads.apply()?;
    match args.command {
        DataCommand::Import(args) => run_import(&args),
        DataCommand::Synth(args) => super::synth::run(&args),
        DataCommand::Describe(args) => {
            let description = Description::of(&Dataset::open(&args.dir)?);
            if args.json { print_json(&description) } else { print(&description.to_string()) }
        }
        DataCommand::Validate(args) => {
            let (d, notes) = validate::validate(&args.dir)?;
            warn(&notes);
            let counts = counts(d.users.len() as u64, d.items.ids.len() as u64, d.seqs.values.len() as u64);
            if args.json {
                return print_json(&json!({ "valid": true, "digest": d.digest, "findings": notes }));
            }
            print(&format!("{}: sound ({counts}), {} kinds of findings\n", args.dir.display(), notes.0.len()))
        }
    }
}

fn run_import(args: &ImportArgs) -> Result<()> {
    let done = args.execute()?;
    warn(&done.notes);
    let facts = &done.manifest.facts;
    if args.json {
        return print_json(&json!({
            "outcome": done.outcome, "dir": args.out, "digest": done.manifest.digest(), "facts": facts,
        }));
    }
    let count = |name: &str| facts[name].as_u64().unwrap_or(0);
    let how = match done.outcome {
        Outcome::Built => "imported",
        Outcome::Rebuilt => "imported again",
        Outcome::UpToDate => "up to date",
    };
    let mut counts = counts(count("users"), count("items"), count("interactions"));
    if let Some(n) = facts["images"].as_u64() {
        counts += &format!(", {n} pictures");
    }
    print(&format!("{}: {how}: {counts}\n", args.out.display()))
}

fn counts(users: u64, items: u64, interactions: u64) -> String {
    format!("{users} users, {items} items, {interactions} interactions")
}

impl ImportArgs {
    /// Imports, with progress on stderr, and prints nothing else.
    ///
    /// # Errors
    /// As [`import`], and flags that do not fit the format.
    pub fn execute(&self) -> Result<Imported> {
        let source = self.source()?;
        let mut current: Option<(PathBuf, Progress)> = None;
        let on_progress = |file: &Path, done: u64, total: u64| {
            if current.as_ref().is_none_or(|(path, _)| path != file) {
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                current = Some((file.into(), Progress::bytes(&format!("reading {name}"), total)));
            }
            if let Some((_, progress)) = &current {
                progress.set(done);
                if done >= total {
                    progress.finish();
                }
            }
        };
        let pictures = self.pictures()?;
        import(source.as_ref(), pictures.as_ref(), &self.policy(), &self.out, self.force, Box::new(on_progress))
    }

    /// Pictures that are named, or that lie where the format has them.
    fn pictures(&self) -> Result<Option<Pictures>> {
        if !(0.0..=1.0).contains(&self.bad_images) {
            return Err(Error::Usage(format!("--bad-images {} is no share between 0 and 1", self.bad_images)));
        }
        let found = match &self.images {
            Some(path) if !path.exists() => {
                return Err(Error::Usage(format!("--images {}: no such file or folder", path.display())));
            }
            Some(path) => Some(path.clone()),
            None if self.no_images || self.format != Format::Ninerec => None,
            None => {
                let dirs = self.inputs.iter().filter(|i| i.is_dir());
                let inside = dirs.flat_map(|d| std::fs::read_dir(d).into_iter().flatten().flatten().map(|e| e.path()));
                let cover =
                    |p: &PathBuf| p.is_dir() && p.file_name().is_some_and(|n| n.to_string_lossy().ends_with("_cover"));
                let mut covers: Vec<PathBuf> = inside.filter(cover).collect();
                covers.sort();
                match covers.len() {
                    0 | 1 => covers.pop(),
                    _ => return Err(Error::Usage("there are several …_cover folders; name one with --images".into())),
                }
            }
        };
        let (id_column, column) = (self.image_id_col.clone(), self.image_col.clone());
        Ok(found.map(|path| Pictures { path, id_column, column, tolerance: self.bad_images }))
    }

    fn policy(&self) -> Policy {
        Policy {
            unknown_items: self.unknown_items,
            dedup: self.dedup,
            skip_malformed: self.skip_malformed,
            encoding: self.encoding,
            time_unit: self.time_unit,
            raw_text: self.raw_text,
            drop_null_ids: self.drop_null_ids,
        }
    }

    /// A flag that a format does not know must not be passed over in silence.
    fn refuse(&self, flags: &[(&str, bool)]) -> Result<()> {
        let format = self.format.to_possible_value().map(|v| v.get_name().to_string()).unwrap_or_default();
        match flags.iter().find(|(_, given)| *given) {
            Some((flag, _)) => Err(Error::Usage(format!("{flag} has no meaning with --format {format}"))),
            None => Ok(()),
        }
    }

    fn source(&self) -> Result<Box<dyn Source>> {
        let given = InputFiles {
            inputs: self.inputs.clone(),
            interactions: self.interactions.clone(),
            items: self.items.clone(),
            users: self.users.clone(),
        };
        let or = |given: &Option<String>, default: &str| given.clone().unwrap_or_else(|| default.into());
        let columns = [
            ("--user-col", self.user_col.is_some()),
            ("--item-col", self.item_col.is_some()),
            ("--time-col", self.time_col.is_some()),
            ("--rating-col", self.rating_col.is_some()),
            ("--min-rating", self.min_rating.is_some()),
        ];
        let maps = [
            ("--item-id-col", self.item_id_col.is_some()),
            ("--user-id-col", self.user_id_col.is_some()),
            ("--attribute-cols", self.attribute_cols.is_some()),
            ("--user-attribute-cols", self.user_attribute_cols.is_some()),
            ("--no-header", self.no_header),
            ("--no-quotes", self.no_quotes),
        ];
        if self.format != Format::Ninerec {
            self.refuse(&[("--pair-columns", !self.pair_columns.is_empty())])?;
        }
        let layout = match self.format {
            Format::Recbole => {
                self.refuse(&maps)?;
                let defaults = recbole::Options::default();
                let options = recbole::Options {
                    user: or(&self.user_col, &defaults.user),
                    item: or(&self.item_col, &defaults.item),
                    time: self.time_col.clone(),
                    rating: or(&self.rating_col, &defaults.rating),
                    text: self.text_cols.clone(),
                    min_rating: self.min_rating,
                };
                return Ok(Box::new(RecBole::new(&given, options)?));
            }
            Format::Morec => {
                self.refuse(&columns)?;
                self.refuse(&maps)?;
                self.refuse(&[("--users", self.users.is_some())])?;
                return Ok(Box::new(MoRec::new(&given, &self.text_cols)?));
            }
            Format::Ninerec => {
                self.refuse(&columns)?;
                self.refuse(&maps)?;
                self.refuse(&[("--text-cols", !self.text_cols.is_empty())])?;
                return Ok(Box::new(NineRec::new(&given, &self.pair_columns, self.language)?));
            }
            Format::Csv => Layout::Delimited { delimiter: b',', quotes: !self.no_quotes, header: !self.no_header },
            Format::Tsv => Layout::tsv(!self.no_header),
            Format::Jsonl => Layout::Jsonl,
            Format::Parquet => Layout::Parquet,
        };
        if matches!(self.format, Format::Jsonl | Format::Parquet) {
            self.refuse(&maps[4..])?;
        }
        let only = |names: &Option<Vec<String>>| names.clone().map_or(Attributes::All, Attributes::Only);
        let map = ColumnMap {
            events: EventColumns {
                user: or(&self.user_col, "user_id"),
                item: or(&self.item_col, "item_id"),
                time: self.time_col.clone(),
                rating: self.rating_col.clone(),
            },
            min_rating: self.min_rating,
            item_id: self.item_id_col.clone(),
            text: self.text_cols.clone(),
            attributes: only(&self.attribute_cols),
            user_id: self.user_id_col.clone(),
            user_attributes: only(&self.user_attribute_cols),
        };
        Ok(Box::new(Generic::new(&given, layout, map)?))
    }
}

fn warn(notes: &Notes) {
    for note in notes.iter() {
        terminal::message(&terminal::line(&format!("warning: {note}")));
    }
}
