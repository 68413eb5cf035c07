//! `morec distill`: a small encoder of texts or pictures learns from a large one.

use super::output;
use super::progress::Progress;
use super::settings::{DeviceArg, RunsDir, Threads};
use crate::distill::{
    self, DistillConfig, DistillReport, ImageCorpus, ImageDistillation, TextCorpus, TextDistillation,
};
use crate::error::{Error, Result};
use crate::hub::{self, HubOptions};
use crate::item::image::ImageFolder;
use crate::item::text::TextFolder;
use crate::nn::ops::Pooling;
use crate::terminal;
use clap::{Args, ValueEnum};
use std::cell::RefCell;
use std::path::{Path, PathBuf};

/// How token vectors become a text's vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Pool {
    /// The mean over all tokens
    Mean,
    /// The first token
    Cls,
}

/// Teach a small encoder what a large one knows about the titles, or the pictures, of your data
///
/// A text encoder teaches one of its family; a vision encoder teaches a ViT on the data sets' pictures.
#[derive(Debug, Args)]
pub struct DistillArgs {
    /// The teacher: a folder, a name below models/, or a hub id
    #[arg(long, value_name = "MODEL")]
    teacher: String,
    /// Data set folders whose items' texts are learned from
    #[arg(short, long, value_name = "DIR", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Text files, one text a line
    #[arg(long, value_name = "FILE", num_args = 1..)]
    texts: Vec<PathBuf>,
    /// Other encoders to be judged by the same held-out texts
    #[arg(long, value_name = "MODEL", num_args = 1..)]
    compare: Vec<String>,
    /// The student's folder, for example models/NAME
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
    /// Where checkpoints and the teacher's vectors are kept; a stopped distillation goes on from there
    /// [default: RUNS/distill-NAME]
    #[arg(long, value_name = "DIR")]
    work: Option<PathBuf>,
    #[command(flatten)]
    runs: RunsDir,
    /// Start again: forget the checkpoint in --work, replace --out
    #[arg(long)]
    force: bool,
    /// Texts: how token vectors become a text's vector, in teacher and student [default: mean]
    #[arg(long, value_enum)]
    pooling: Option<Pool>,
    /// Texts: tokens after which they are cut, special ones included [default: 48]
    #[arg(long, value_name = "N")]
    max_tokens: Option<usize>,
    /// Texts: do not lower-case them first
    #[arg(long)]
    keep_case: bool,
    /// Width of the student
    #[arg(long, default_value_t = 192, value_name = "N", help_heading = "Student")]
    hidden: usize,
    /// Its blocks
    #[arg(long, default_value_t = 3, value_name = "N", help_heading = "Student")]
    layers: usize,
    /// Its attention heads
    #[arg(long, default_value_t = 6, value_name = "N", help_heading = "Student")]
    heads: usize,
    /// Width inside its feed-forward part [default: 4 × hidden]
    #[arg(long, value_name = "N", help_heading = "Student")]
    intermediate: Option<usize>,
    /// Texts: tokens kept of the teacher's vocabulary, most used in the texts first; 0: all [default: 10000]
    #[arg(long, value_name = "N", help_heading = "Student")]
    vocab: Option<usize>,
    /// Pictures: pixels a side [default: 112]
    #[arg(long, value_name = "N", help_heading = "Student")]
    side: Option<usize>,
    /// Pictures: side of a patch [default: 16]
    #[arg(long, value_name = "N", help_heading = "Student")]
    patch: Option<usize>,
    /// Write weights as F32 instead of F16
    #[arg(long, help_heading = "Student")]
    f32: bool,
    /// Passes over the texts
    #[arg(long, default_value_t = 20, value_name = "N", help_heading = "Learning")]
    epochs: usize,
    /// Texts a step
    #[arg(long, default_value_t = 128, value_name = "N", help_heading = "Learning")]
    batch_size: usize,
    /// Peak learning rate
    #[arg(long, default_value_t = 1e-3, value_name = "X", help_heading = "Learning")]
    lr: f64,
    /// AdamW's weight decay
    #[arg(long, default_value_t = 0.01, value_name = "X", help_heading = "Learning")]
    weight_decay: f64,
    /// Texts: weight of the loss on each token's hidden state; 0: only the pooled vectors [default: 0]
    #[arg(long, value_name = "X", help_heading = "Learning")]
    hidden_weight: Option<f64>,
    /// Random parts of each text or picture that are learned from, too
    #[arg(long, default_value_t = 1, value_name = "N", help_heading = "Learning")]
    crops: usize,
    /// Share of texts kept for judging
    #[arg(long, default_value_t = 0.05, value_name = "X", help_heading = "Learning")]
    held_out: f64,
    /// Seed of everything random
    #[arg(long, default_value_t = 42, help_heading = "Learning")]
    seed: u64,
    /// Steps between checkpoints; 0: only after each epoch
    #[arg(long, default_value_t = 500, value_name = "N", help_heading = "Learning")]
    checkpoint_steps: usize,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    threads: Threads,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

/// Runs `morec distill`.
pub fn run(args: DistillArgs) -> Result<()> {
    args.threads.apply()?;
    args.device.require_cpu("morec distill")?;
    if args.data.is_empty() && args.texts.is_empty() {
        return Err(Error::Usage("give something to learn from: --data DIR…, or for texts --texts FILE…".into()));
    }
    let name = args.out.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_else(|| "student".into());
    let config = settings(&args, &name);
    config.check()?;
    let work = args.work.clone().unwrap_or_else(|| args.runs.runs.join(format!("distill-{name}")));
    may_write(&args.out, &work, args.force)?;
    let options = HubOptions::from_env()?;
    let teacher = hub::resolve(&args.teacher, &options)?.dir;
    let others = args
        .compare
        .iter()
        .map(|name| Ok((short(name), TextFolder::open(&hub::resolve(name, &options)?.dir, true)?)))
        .collect::<Result<Vec<_>>>()?;
    let bars = Bars::default();
    let on_progress = |p: distill::Progress| bars.show(p);
    let report = if ImageFolder::is_one(&teacher) {
        refuse_flags(&text_flags(&args), "pictures")?;
        let pre = ImageFolder::open(&teacher, false)?.preprocess;
        let corpus = ImageCorpus::read(&args.data, &pre, config.held_out, config.seed, &on_progress)?;
        distill::distill(&ImageDistillation::open(&config, &teacher, &corpus)?, &work, &args.out, &on_progress)?
    } else {
        refuse_flags(&image_flags(&args), "texts")?;
        let corpus = TextCorpus::read(&args.data, &args.texts, config.held_out, config.crops, config.seed)?;
        distill::distill(&TextDistillation::open(&config, &teacher, &corpus, &others)?, &work, &args.out, &on_progress)?
    };
    bars.finish();
    if args.json { output::print_json(&report) } else { output::print(&describe(&report, config.hidden)) }
}

/// Distillation settings from the arguments.
fn settings(args: &DistillArgs, name: &str) -> DistillConfig {
    let default = DistillConfig::default();
    DistillConfig {
        name: name.into(),
        teacher: args.teacher.clone(),
        pooling: if args.pooling == Some(Pool::Cls) { Pooling::Cls } else { Pooling::Mean },
        max_tokens: args.max_tokens.unwrap_or(default.max_tokens),
        lower_case: !args.keep_case,
        hidden: args.hidden,
        layers: args.layers,
        heads: args.heads,
        intermediate: args.intermediate.unwrap_or(4 * args.hidden),
        vocab: args.vocab.unwrap_or(default.vocab),
        side: args.side.unwrap_or(default.side),
        patch: args.patch.unwrap_or(default.patch),
        epochs: args.epochs,
        batch_size: args.batch_size,
        lr: args.lr,
        weight_decay: args.weight_decay,
        hidden_weight: args.hidden_weight.unwrap_or(default.hidden_weight),
        crops: args.crops,
        held_out: args.held_out,
        seed: args.seed,
        full_precision: args.f32,
        checkpoint_steps: args.checkpoint_steps,
    }
}

/// Flags that only text teachers take, and whether they were given.
fn text_flags(args: &DistillArgs) -> [(&'static str, bool); 7] {
    [
        ("--texts", !args.texts.is_empty()),
        ("--compare", !args.compare.is_empty()),
        ("--pooling", args.pooling.is_some()),
        ("--max-tokens", args.max_tokens.is_some()),
        ("--keep-case", args.keep_case),
        ("--vocab", args.vocab.is_some()),
        ("--hidden-weight", args.hidden_weight.is_some()),
    ]
}

/// Flags that only image teachers take, and whether they were given.
fn image_flags(args: &DistillArgs) -> [(&'static str, bool); 2] {
    [("--side", args.side.is_some()), ("--patch", args.patch.is_some())]
}

fn refuse_flags(flags: &[(&str, bool)], samples: &str) -> Result<()> {
    match flags.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Error::Usage(format!("{flag} has no meaning with a teacher of {samples}"))),
        None => Ok(()),
    }
}

/// Progress bars: one while the teacher encodes, one while the student trains.
#[derive(Default)]
struct Bars {
    teacher: RefCell<Option<Progress>>,
    student: RefCell<Option<Progress>>,
}

impl Bars {
    fn show(&self, p: distill::Progress) {
        match p {
            distill::Progress::Note(text) => match &*self.student.borrow() {
                Some(bar) => bar.line(text),
                None => terminal::message(text),
            },
            distill::Progress::Teacher(done, all) => {
                let mut bar = self.teacher.borrow_mut();
                bar.get_or_insert_with(|| Progress::new("teacher reads", all as u64)).set(done as u64);
                if done == all
                    && let Some(bar) = bar.take()
                {
                    bar.finish();
                }
            }
            distill::Progress::Step(step, total, loss) => {
                let mut bar = self.student.borrow_mut();
                let bar = bar.get_or_insert_with(|| Progress::new("student learns", total));
                bar.message(format!("loss {loss:.4}"));
                bar.set(step);
            }
        }
    }
    fn finish(&self) {
        if let Some(bar) = self.student.take() {
            bar.finish();
        }
    }
}

/// The result as text; `width` is the student's hidden width.
fn describe(report: &DistillReport, width: usize) -> String {
    let judged = if report.held_out < 2 {
        "too few were held out to judge it by\n".to_string()
    } else {
        let beside: String =
            report.others.iter().map(|(name, recall)| format!("  {name}: {:.1} %\n", 100.0 * recall)).collect();
        format!(
            "recall@10 of the teacher's neighbours on {} held out: {:.1} % (teacher cut to width {width}: {:.1} %); \
             mean cosine {:.4}\n{beside}",
            report.held_out,
            100.0 * report.recall_at_10,
            100.0 * report.recall_at_10_limit,
            report.cosine,
        )
    };
    format!(
        "{}: {:.2} million parameters, {} (teacher {:.2} million)\n{judged}{} steps, {:.0} s, {}\n",
        report.dir,
        report.parameters as f64 / 1e6,
        output::bytes(report.bytes),
        report.teacher_parameters as f64 / 1e6,
        report.steps,
        report.seconds,
        report.peak_memory.map_or("memory unknown".into(), |b| format!("{} of memory", output::bytes(b))),
    )
}

/// A model's name without its path.
fn short(name: &str) -> String {
    Path::new(name).file_name().map_or_else(|| name.into(), |n| n.to_string_lossy().into_owned())
}

/// Refuses to overwrite a student without `--force`, and any other folder in every case.
fn may_write(out: &Path, work: &Path, force: bool) -> Result<()> {
    if out.exists() && crate::fsio::holds_something(out)? {
        let student = out.join("distillation.json").exists();
        if !student {
            let m = "not empty and not a distilled model; --out names another folder";
            return Err(Error::Usage(format!("{}: {m}", out.display())));
        }
        if !force {
            let m = "this student exists; --force makes it again, --out names another folder";
            return Err(Error::Usage(format!("{}: {m}", out.display())));
        }
    }
    let last = work.join("last");
    if force && last.join("cursor.json").exists() {
        std::fs::remove_dir_all(&last).map_err(Error::io(&last))?;
    }
    Ok(())
}
