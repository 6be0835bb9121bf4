//! Certificates for development and for a first agent.

mod files;
mod init;
mod issue;
mod show;
mod status;

use clap::Subcommand;

use crate::cli::Global;
use crate::errors::{Exit, Failure};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a development CA with a certificate for an agent and one for an operator.
    Init(init::Init),
    /// Show subject, names and validity of the certificates in a file.
    Show(show::Show),
    /// How long is an agent's certificate valid, and is all well with it? With --addr also: is it the one
    /// that the running agent shows? Exit code 1 if the agent can't be believed with it.
    Status(status::Status),
}

/// Runs one verb.
pub(crate) async fn run(command: Command, global: &Global) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => init::run(args, global),
        Command::Show(args) => show::run(&args, global),
        Command::Status(args) => status::run(&args, global).await,
    }
}
