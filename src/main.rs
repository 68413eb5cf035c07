//! The `morec` command: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match morec::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            morec::terminal::message(&format!("morec: {e}"));
            ExitCode::from(e.exit_code())
        }
    }
}
