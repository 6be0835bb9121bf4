//! What belongs into a bug report.

mod agent;
mod archive;
mod bundle;
mod contents;
mod local;
mod names;

use clap::Subcommand;

use crate::cli::{EXIT_CODES, Global};
use crate::errors::{Exit, Failure};

/// What to collect.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Write versions, configuration, logs, doctor, libvirt's facts and the ledger into one file, known kinds of secrets taken out; also when the agent is dead.
    #[command(after_help = EXIT_CODES)]
    Bundle(bundle::Bundle),
}

/// Runs one verb.
pub(crate) async fn run(command: Command, global: &Global) -> Result<Exit, Failure> {
    match command {
        Command::Bundle(args) => bundle::run(args, global).await,
    }
}
