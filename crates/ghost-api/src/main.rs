//! `ghost-api`, the reference control plane: the server, and the operator's commands to it.
//!
//! Invariant: standard output carries the answer (or the server's log) and nothing else; errors go to
//! standard error, one line with cause and remedy; the exit code tells a script why.

mod cli;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = cli::Cli::parse();
    let format = cli.output;
    match cli::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            cli::failure::report(&failure, format);
            failure.exit.into()
        }
    }
}
