//! `morec quickstart`: pre-training and transfer on two synthetic platforms, without data or network.

use super::console::{Console, encoding};
use super::output;
use super::results::{Row, comparison};
use super::settings::{DeviceArg, RunsDir, Threads};
use super::synth;
use crate::baseline::MostPopular;
use crate::config::{self, Config, ItemKind};
use crate::data::synth::{Platform, SynthConfig};
use crate::error::{Error, Result};
use crate::experiment::showcase::{self, ShowcaseMethod};
use crate::experiment::{self, ExistingRun, Prepared, RunResult};
use crate::fsio::{self, Manifest};
use crate::model::ModelFolder;
use crate::report::{self, Curve, Page, Person};
use crate::terminal;
use clap::Args;
use std::path::{Path, PathBuf};
use std::time::Instant;

const SETTINGS: &str = include_str!("../../configs/quickstart.toml");
const FORMAT: u32 = 1;
/// Users whose recommendations the page shows.
const PEOPLE: usize = 6;
/// Epochs of pre-training.
const SOURCE_EPOCHS: usize = 5;
/// Epochs of the ID model.
const ID_EPOCHS: usize = 60;
/// Epochs of the models of frozen encoders, whose output is computed once.
const FROZEN_EPOCHS: usize = 12;
/// Their learning rate: only small layers train.
const FROZEN_LR: f64 = 4e-3;

/// Show everything on two invented platforms: no data, no network, under three minutes
#[derive(Debug, Args)]
pub struct QuickstartArgs {
    /// Where data, runs and the page go [default: RUNS/quickstart]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsDir,
    /// Seed of everything random
    #[arg(long, default_value_t = 42)]
    seed: u64,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
    /// Print the results as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `morec quickstart`.
pub fn run(args: &QuickstartArgs) -> Result<()> {
    args.threads.apply()?;
    let started = Instant::now();
    let out = &args.out.clone().unwrap_or_else(|| args.runs.runs.join("quickstart"));
    claim(out)?;
    let (source_data, target_data) = write_platforms(out, args.seed)?;
    let settings = out.join("settings.toml");
    fsio::write_bytes(&settings, SETTINGS.as_bytes())?;
    let base = config::load(
        &Config { seed: args.seed, device: args.device.name().into(), ..Config::default() },
        &[settings],
        &[],
    )?;

    let pretrained = pretrain(&on(&base, &source_data), out)?;
    let target_config = on(&base, &target_data);
    let target = Prepared::open(&target_config)?;
    terminal::message(&format!("2/2 goods platform: {}: seven ways", sizes(&target)));
    let mut rows = super::results::baselines(&base, &target, "test")?;
    rows.extend(compare(&target_config, &target, out)?);

    let popular = MostPopular::new(&target.split);
    let runs = ["ID-SASRec", "from-scratch", "full"].map(|n| (n.to_string(), out.join(n)));
    let mut methods = vec![("most popular".to_string(), ShowcaseMethod::Baseline(&popular))];
    methods.extend(runs.iter().map(|(n, d)| (n.clone(), ShowcaseMethod::Run(d))));
    let people = showcase::sample_users(&target, &methods, PEOPLE, 5, args.seed)?;
    let seconds = started.elapsed().as_secs_f64();
    let page = page(out, &pretrained, &rows, &base.eval.ks, seconds, people)?;
    let file = out.join("report.html");
    fsio::write_bytes(&file, report::page(&page).as_bytes())?;
    if args.json {
        return output::print_json(&serde_json::json!({
            "rows": rows, "source": pretrained, "seconds": seconds, "page": file, "people": page.people,
        }));
    }
    let text = comparison(&rows, &base.eval.ks);
    let shown = file.display();
    output::print(&format!("{text}{seconds:.0} s; page: {shown}\n\nOn your own data:\n  {}\n", NEXT.join("\n  ")))
}

/// Writes the two platforms' data sets; returns the folders of source and target.
fn write_platforms(out: &Path, seed: u64) -> Result<(PathBuf, PathBuf)> {
    let (source, target) = (out.join("data/source"), out.join("data/target"));
    let config = |platform, users, items| SynthConfig {
        platform,
        users,
        items,
        mean_events: 8.0,
        noise: 0.1,
        seed,
        covers: true,
    };
    synth::make(&config(Platform::Media, 6000, 4000), &source)?;
    synth::make(&config(Platform::Goods, 2500, 2000), &target)?;
    Ok((source, target))
}

fn sizes(p: &Prepared) -> String {
    format!("{} users, {} items", p.split.users.len(), p.item_ids.len())
}

/// `base` with `data` as its data set.
fn on(base: &Config, data: &Path) -> Config {
    let mut c = base.clone();
    c.data.path = data.display().to_string();
    c
}

/// Trains the three source models, of titles, covers and both; returns the result of the first.
fn pretrain(base: &Config, out: &Path) -> Result<RunResult> {
    let mut config = base.clone();
    config.train.epochs = SOURCE_EPOCHS;
    let source = Prepared::open(&config)?;
    terminal::message(&format!("1/2 media platform: {}: pre-training", sizes(&source)));
    let pretrained = go("source", &config, &source, None, &out.join("source"))?;
    for kind in [ItemKind::Image, ItemKind::Both] {
        let dir = out.join(format!("source-{}", kind.name()));
        go(kind.name(), &frozen(&config, kind), &source, None, &dir)?;
    }
    Ok(pretrained)
}

/// Trains or transfers the seven models on the target.
fn compare(base: &Config, target: &Prepared, out: &Path) -> Result<Vec<Row>> {
    let mut rows = vec![];
    let mut add = |name: &str, config: &Config, source: Option<&ModelFolder>| {
        let result = go(name, config, target, source, &out.join(name))?;
        rows.push(Row { name: name.into(), test: result.test.clone(), run: Some(result) });
        Ok::<(), Error>(())
    };
    let mut id = base.clone();
    id.item.kind = ItemKind::Id;
    id.item.model = String::new();
    // ID tables need more epochs, which are cheap.
    id.train.epochs = ID_EPOCHS;
    add("ID-SASRec", &id, None)?;
    let source = out.join("source");
    let folder = ModelFolder::open(&source)?;
    for preset in ["zero-shot", "frozen", "from-scratch", "full"] {
        let mut c = base.clone();
        c.transfer.source = source.display().to_string();
        c.transfer.preset = preset.into();
        add(preset, &c, Some(&folder))?;
    }
    for kind in [ItemKind::Image, ItemKind::Both] {
        let dir = out.join(format!("source-{}", kind.name()));
        let mut c = frozen(base, kind);
        c.transfer.source = dir.display().to_string();
        c.transfer.preset = "frozen".into();
        add(kind.name(), &c, Some(&ModelFolder::open(&dir)?))?;
    }
    Ok(rows)
}

/// The report of all runs below `out`.
fn page(
    out: &Path,
    pretrained: &RunResult,
    rows: &[Row],
    ks: &[usize],
    seconds: f64,
    people: Vec<Person>,
) -> Result<Page> {
    let intro = vec![
        format!(
            "Two invented platforms: media (pre-training: {} test users, NDCG@10 {:.2} %) and goods. They share no user \
             and no item, only that titles and covers say what people are interested in. The table is of the goods platform.",
            pretrained.test.users,
            100.0 * pretrained.test.get("ndcg@10")
        ),
        "full: the media model, all of it trained on; frozen: its text encoder stays as it is; zero-shot: nothing \
         trained; from-scratch: the same model, never on media; ID-SASRec: items are rows of a table, titles unused. image, both: the items' covers, alone and with their titles, through \
         encoders that stay as they are."
            .into(),
    ];
    let curves = ["ID-SASRec", "frozen", "from-scratch", "full", "image", "both"]
        .iter()
        .map(|n| Ok(Curve { name: (*n).into(), points: curve(&out.join(n).join("metrics.jsonl"))? }))
        .collect::<Result<_>>()?;
    Ok(Page {
        title: "morec quickstart".into(),
        intro,
        table: super::results::lines(rows, ks),
        note: format!("{}; the whole quickstart took {seconds:.0} s", super::results::protocol_line(rows)),
        plot: ("Learning on the goods platform".into(), "epoch".into(), "validation NDCG@10, %".into()),
        curves,
        people,
        next: NEXT.iter().map(|s| (*s).to_string()).collect(),
    })
}

/// `base` for items of kind `kind`, with frozen encoders.
fn frozen(base: &Config, kind: ItemKind) -> Config {
    let mut c = base.clone();
    c.item.kind = kind;
    c.item.train_layers = 0;
    c.item.image.model = "cover-mini".into();
    c.item.image.train_layers = 0;
    c.train.epochs = FROZEN_EPOCHS;
    c.train.lr = FROZEN_LR;
    c
}

const NEXT: [&str; 3] = [
    "morec data import --format csv --interactions clicks.csv --items items.csv --text-cols title --out datasets/mine",
    "morec train -d datasets/mine -s item.model=title-mini --out runs/mine",
    "morec transfer --source runs/mine -d datasets/other --preset from-scratch,full,frozen --baselines",
];

/// Writes the quickstart's manifest to the folder; refuses a folder with other content.
fn claim(out: &Path) -> Result<()> {
    let mine = out.join(fsio::MANIFEST).exists();
    if mine {
        Manifest::read(out, "quickstart", FORMAT, "--out names another folder")?;
        return Ok(());
    }
    if out.exists() && fsio::holds_something(out)? {
        return Err(Error::Usage(format!("{}: not empty; --out names another folder", out.display())));
    }
    std::fs::create_dir_all(out).map_err(Error::io(out))?;
    Manifest::new("quickstart", FORMAT).seal(out, &[])?;
    Ok(())
}

fn go(
    label: &str,
    config: &Config,
    prepared: &Prepared,
    source: Option<&ModelFolder>,
    dir: &Path,
) -> Result<RunResult> {
    let console = Console::new(&format!("[{label}]"), &config.train.metric);
    experiment::execute(config, prepared, source, dir, ExistingRun::Force, vec![Box::new(console)], &encoding(label))
}

/// Validation NDCG@10 in per cent by epoch, from a run's metrics file.
fn curve(file: &Path) -> Result<Vec<(f64, f64)>> {
    let text = fsio::read_text(file)?;
    let lines = text.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    Ok(lines
        .filter(|v| v["event"] == "validation")
        .filter_map(|v| Some((v["epoch"].as_f64()? + 1.0, 100.0 * v["metrics"]["ndcg@10"].as_f64()?)))
        .collect())
}
