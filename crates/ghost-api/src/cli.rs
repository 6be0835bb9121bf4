//! The command line.

mod agents;
mod dial;
pub(crate) mod failure;
mod identified;
mod init;
mod inputs;
mod listings;
mod log;
mod output;
mod serve;
mod token;
mod vm;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use ghost_api::serve::SOCKET;
use ghost_core::domain::CallId;

use failure::Failure;
use identified::Identified;
use output::Format;

/// Printed by `--help`; the numbers are agentctl's.
const EXIT_CODES: &str = "\
Exit codes:
  0  done
  1  failed for another reason
  2  wrong usage of the command line
  3  no such agent or VM
  4  the request is invalid
  5  conflict: name taken, wrong state, file exists
  6  no agent has the room
  7  server or agent unreachable
  8  timed out
  9  not permitted";

/// The reference control plane of a Ghost cloud.
#[derive(Debug, Parser)]
#[command(name = "ghost-api", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// Folder of the authority and the store.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "/var/lib/ghost-api",
        env = "GHOST_API_DIR"
    )]
    dir: PathBuf,
    /// The operators' unix socket [default: admin.sock in --dir].
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// How to print answers and errors.
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    /// Id of the command, by which the server's log and its agent's name it; a create that is given the id of an earlier
    /// one gives the same VM again, on the same agent [env: GHOST_REQUEST_ID, which does not make a create repeatable]
    /// [default: a new UUID].
    #[arg(long, global = true, value_name = "ID")]
    request_id: Option<CallId>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the certificate authority, the control plane's certificates and an operator's.
    Init(init::Init),
    /// Make another operator's certificate, for agentctl.
    Operator(init::Operator),
    /// Serve agents over TLS, operators over the unix socket, monitoring over HTTP.
    Serve(serve::Serve),
    /// One-time enrolment keys.
    #[command(subcommand)]
    Token(token::Command),
    /// Who there is, how they are and what they have.
    Agents,
    /// One agent.
    #[command(subcommand)]
    Agent(agents::Command),
    /// What happened to VMs, newest last.
    Events(listings::Events),
    /// What operators and enrolments changed, newest last.
    Audit(listings::Audit),
    /// VMs, on agents.
    #[command(subcommand)]
    Vm(vm::Command),
}

/// What all commands know.
#[derive(Debug)]
struct Context {
    dir: PathBuf,
    socket: PathBuf,
    output: Format,
    identified: Identified,
}

/// Does it.
///
/// # Errors
/// With cause, remedy and exit code.
pub(crate) fn run(cli: Cli) -> Result<(), Failure> {
    let socket = cli.socket.unwrap_or_else(|| cli.dir.join(SOCKET));
    let identified = Identified::choose(cli.request_id, |name| std::env::var(name).ok())?;
    let context = Context { dir: cli.dir, socket, output: cli.output, identified };
    match cli.command {
        Command::Init(args) => init::run(args, &context),
        Command::Operator(args) => init::operator(&args, &context),
        Command::Serve(args) => serve::run(&args, context),
        Command::Token(command) => on_runtime(token::run(command, &context)),
        Command::Agents => on_runtime(agents::list(&context)),
        Command::Agent(command) => on_runtime(agents::run(command, &context)),
        Command::Events(args) => on_runtime(listings::events(args, &context)),
        Command::Audit(args) => on_runtime(listings::audit(&args, &context)),
        Command::Vm(command) => on_runtime(vm::run(command, &context)),
    }
}

fn on_runtime(work: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start the runtime: {error}")))?;
    runtime.block_on(work)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_of_the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
