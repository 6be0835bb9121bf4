//! The verbs of a VM's life; one call each, the agent decides.

mod create;
mod delete;
mod inputs;
pub(crate) mod list;
mod power;
pub(crate) mod status;
mod watch;

use std::time::Duration;

use clap::Subcommand;

use crate::cli::Global;
use crate::errors::{Exit, Failure};

/// Reads are answered from the agent's cache.
pub(crate) const READ_LIMIT: Duration = Duration::from_secs(30);
/// A start waits up to 2 minutes for the guest's address.
const START_LIMIT: Duration = Duration::from_secs(180);
/// A stop gives the guest 30 s by default, and the owner may allow more; so does a delete.
const STOP_LIMIT: Duration = Duration::from_secs(120);
/// The image may have to be fetched first, which the agent itself gives an end; then up to 2 minutes for
/// the guest's address.
const CREATE_LIMIT: Duration = Duration::from_secs(3 * 3600);

/// What to do with VMs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Create a VM, start it and wait for its address; all or nothing.
    Create(create::Create),
    /// List all VMs of the agent, ordered by name.
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Show all VMs, then each change as it happens; Ctrl-C ends it.
    Watch,
    /// Show one VM in detail.
    #[command(visible_alias = "show")]
    Status(status::VmStatus),
    /// Start a stopped VM; it keeps its address.
    Start(power::Start),
    /// Ask the guest to power off, then cut the power.
    Stop(power::Stop),
    /// Delete VMs with their disks; asks first on a terminal.
    #[command(visible_alias = "rm")]
    Delete(delete::Delete),
}

/// Runs one verb.
pub(crate) async fn run(command: Command, global: &Global) -> Result<Exit, Failure> {
    match command {
        Command::Create(args) => create::run(args, global).await,
        Command::List(args) => list::run(&args, global).await,
        Command::Watch => watch::run(global).await,
        Command::Status(args) => status::run(args, global).await,
        Command::Start(args) => power::start(args, global).await,
        Command::Stop(args) => power::stop(args, global).await,
        Command::Delete(args) => delete::run(args, global).await,
    }
}
