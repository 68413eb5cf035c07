//! The command. Only `data` so far.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(version, about)]
enum Command {
    /// Import, describe and validate data sets
    Data(morec::cli::data::DataArgs),
}

fn main() -> ExitCode {
    let Command::Data(args) = Command::parse();
    match morec::cli::data::run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}
