//! Completion scripts, made from the definition of the command line.

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::cli::Cli;
use crate::errors::{Exit, Failure};
use crate::output;

/// Options of `completions`.
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell to complete in.
    shell: Shell,
}

/// Prints the script.
pub(crate) fn run(args: &Completions) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "agentctl", &mut script);
    output::emit(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
