//! The command line, one file per subcommand.

use crate::error::Result;
use crate::terminal;
use clap::{CommandFactory, Parser, Subcommand};
use std::borrow::Cow;

pub mod adapters;
pub mod bench;
pub mod compare;
mod completions;
mod console;
pub mod data;
pub mod distill;
pub mod doctor;
pub mod encode;
pub mod evaluate;
pub mod models;
mod output;
pub mod progress;
pub mod quickstart;
pub mod recommend;
mod results;
mod settings;
mod synth;
pub mod train;
pub mod transfer;

const NOTES: &str = "Environment: MOREC_THREADS, MOREC_DEVICE, MOREC_DATA and MOREC_RUNS stand for --threads, --device, --data and --runs (the \
command line wins over them, they win over files); MOREC_MODELS names the folder of models, MOREC_BLAS a matrix library; the model hub's \
HF_* are honoured.

Exit codes: 0 done, 1 internal or I/O error, 2 usage or settings, 3 data, 4 model or checkpoint, \
5 numeric failure (NaN, missing gradient), 6 model hub.";

/// Modality-based transferable recommendation
#[derive(Debug, Parser)]
#[command(name = "morec", version, about, after_help = NOTES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Quickstart(quickstart::QuickstartArgs),
    /// Import, invent, describe and check data sets
    Data(data::DataArgs),
    Train(train::TrainArgs),
    Transfer(transfer::TransferArgs),
    Adapters(adapters::AdaptersArgs),
    Evaluate(evaluate::EvaluateArgs),
    Compare(compare::CompareArgs),
    Recommend(recommend::RecommendArgs),
    Encode(encode::EncodeArgs),
    /// Print every setting, its default and its meaning
    Settings,
    Models(models::ModelsArgs),
    Distill(Box<distill::DistillArgs>),
    Doctor(doctor::DoctorArgs),
    Bench(bench::BenchArgs),
    Completions(completions::CompletionsArgs),
    Man(completions::ManArgs),
}

/// Reads the command line and runs its verb. To be called before any other thread runs. A malformed one ends the process with code 2, as does `--help` with 0.
///
/// # Errors
/// Errors of the subcommand.
pub fn run() -> Result<()> {
    keep_memory();
    unset_empty_variables();
    let cli = parse_arguments();
    crate::nn::blas::check()?;
    match cli.command {
        Command::Quickstart(args) => quickstart::run(&args),
        Command::Data(args) => data::run(args),
        Command::Train(args) => train::run(args),
        Command::Transfer(args) => transfer::run(args),
        Command::Adapters(args) => adapters::run(args),
        Command::Evaluate(args) => evaluate::run(args),
        Command::Compare(args) => compare::run(&args),
        Command::Recommend(args) => recommend::run(args),
        Command::Encode(args) => encode::run(args),
        Command::Settings => output::print(include_str!("../../configs/reference.toml")),
        Command::Models(args) => models::run(args),
        Command::Distill(args) => distill::run(*args),
        Command::Doctor(args) => doctor::run(args),
        Command::Bench(args) => bench::run(args),
        Command::Completions(args) => completions::print(&args, Cli::command()),
        Command::Man(args) => completions::man_pages(&args, Cli::command()),
    }
}

/// Parses the arguments; clap's messages, which quote them, are escaped for the terminal.
fn parse_arguments() -> Cli {
    Cli::try_parse().unwrap_or_else(|e| {
        let plain = e.render().to_string();
        match e.use_stderr() && matches!(terminal::lines(&plain), Cow::Owned(_)) {
            true => {
                terminal::message(plain.trim_end());
                std::process::exit(e.exit_code())
            }
            false => e.exit(),
        }
    })
}

/// Options whose value may come from the environment: the command line wins over it, and it wins over files.
const VARIABLES: [&str; 4] = ["MOREC_DATA", "MOREC_DEVICE", "MOREC_RUNS", "MOREC_THREADS"];

/// An empty variable counts as unset, as with those of the model hub.
fn unset_empty_variables() {
    for name in VARIABLES.iter().filter(|n| std::env::var_os(n).is_some_and(|v| v.is_empty())) {
        // SAFETY: the process has no other thread yet.
        unsafe { std::env::remove_var(name) };
    }
}

/// Keeps glibc from returning the pages of large buffers, which are allocated and freed in every step.
fn keep_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: two documented settings of this process's allocator.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}
