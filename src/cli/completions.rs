//! `morec completions` and `morec man`: what shells and `man` read, made from the definition of the command line.

use super::output;
use crate::error::{Error, Result};
use clap::{Args, Command};
use clap_complete::Shell;
use std::path::PathBuf;

/// Print the completions of a shell
///
/// bash: morec completions bash > ~/.local/share/bash-completion/completions/morec; zsh: … > a folder of $fpath/_morec;
/// fish: … > ~/.config/fish/completions/morec.fish
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Write a man page for every command
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The folder, for example ~/.local/share/man/man1
    #[arg(short, long, value_name = "DIR")]
    out: PathBuf,
}

/// Runs `morec completions`.
///
/// # Errors
/// [`Error::Io`] when stdout cannot be written.
pub fn print(args: &CompletionsArgs, mut command: Command) -> Result<()> {
    let mut script = vec![];
    clap_complete::generate(args.shell, &mut command, "morec", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// Runs `morec man`: `DIR/morec.1`, `DIR/morec-train.1`, `DIR/morec-data-import.1`, …
///
/// # Errors
/// [`Error::Io`] when a page cannot be written.
pub fn man_pages(args: &ManArgs, command: Command) -> Result<()> {
    std::fs::create_dir_all(&args.out).map_err(Error::io(&args.out))?;
    clap_mangen::generate_to(command, &args.out).map_err(Error::io(&args.out))?;
    output::print(&format!("{}: man pages of all commands\n", args.out.display()))
}
