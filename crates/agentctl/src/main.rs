//! `agentctl`, the command line of Ghost Agent.
//!
//! Invariant: standard output carries the answer and nothing else; spinners, questions and errors
//! go to standard error; the exit code tells a script why a command failed ([`errors::Exit`]).

mod cli;
mod cmds;
mod confirm;
mod connect;
mod errors;
mod interrupt;
mod output;
mod progress;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::errors::{Exit, Failure};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let format = cli.global.output;
    match run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            errors::report(&failure, format);
            failure.exit.into()
        }
    }
}

fn run(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    match command {
        Command::Vm(command) => on_runtime(cmds::vm::run(command, &global)),
        Command::Image(command) => on_runtime(cmds::image::run(command, &global)),
        Command::Status => on_runtime(cmds::status::run(&global)),
        Command::Node => on_runtime(cmds::node::run(&global)),
        Command::Top(args) => on_runtime(cmds::top::run(&args, &global)),
        Command::Doctor(args) => on_runtime(cmds::doctor::run(args, &global)),
        Command::Debug(command) => on_runtime(cmds::debug::run(command, &global)),
        Command::Certs(command) => on_runtime(cmds::certs::run(command, &global)),
        Command::LogLevel(args) => on_runtime(cmds::log_level::run(&args, &global)),
        Command::Completions(args) => cmds::completions::run(&args),
        Command::Man(args) => cmds::man::run(&args),
        Command::Version => cmds::version::run(&global),
    }
}

fn on_runtime<F>(work: F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start the runtime: {error}")))?;
    let outcome = runtime.block_on(work);
    // A thread that still waits for standard input must not keep the process.
    runtime.shutdown_background();
    outcome
}
