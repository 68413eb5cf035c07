//! The command line: one file a verb.

use crate::error::Result;
use clap::{Parser, Subcommand};

pub mod doctor;
pub mod models;
mod output;

/// Modality-based transferable recommendation.
#[derive(Debug, Parser)]
#[command(name = "morec", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Models(models::ModelsArgs),
    Doctor(doctor::DoctorArgs),
}

/// Reads the command line and runs its verb. A malformed one ends the process with code 2, as does `--help` with 0.
///
/// # Errors
/// Those of the verb.
pub fn run() -> Result<()> {
    match Cli::parse().command {
        Command::Models(args) => models::run(args),
        Command::Doctor(args) => doctor::run(args),
    }
}
