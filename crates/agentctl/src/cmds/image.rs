//! The verbs of images; one call each, the agent decides. Invariant: what is under way goes on in the
//! agent when this command ends, and who ends it early is told so.

mod follow;
mod list;
mod pull;
mod remove;
mod teller;
mod update;
mod verify;
pub(crate) mod words;

use std::time::Duration;

use clap::Subcommand;
use ghost_proto::agentpb::{ListImagesRequest, ListImagesResponse};

use super::vm::READ_LIMIT;
use crate::cli::Global;
use crate::connect::Agent;
use crate::errors::{Exit, Failure};

/// Reading whole images takes the disk's time; many gigabytes on a slow one.
const DISK_LIMIT: Duration = Duration::from_secs(3600);
/// The agent gives each fetch an end; this one is for an agent that does not.
const FETCH_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List the templates and the images that are cached for them.
    #[command(visible_alias = "ls")]
    List(list::List),
    /// Fetch a template's image now, so that the first VM need not wait for it.
    Pull(pull::Pull),
    /// Ask the publishers for new versions; new VMs get them, existing ones keep theirs.
    Update(update::Update),
    /// Remove an image that no VM is based on; asks first on a terminal.
    #[command(visible_alias = "rm")]
    Remove(remove::Remove),
    /// Compare whole images with their digests; exit code 1 when one is in quarantine.
    Verify(verify::Verify),
}

/// Runs one verb.
pub(crate) async fn run(command: Command, global: &Global) -> Result<Exit, Failure> {
    match command {
        Command::List(args) => list::run(&args, global).await,
        Command::Pull(args) => pull::run(args, global).await,
        Command::Update(args) => update::run(args, global).await,
        Command::Remove(args) => remove::run(args, global).await,
        Command::Verify(args) => verify::run(args, global).await,
    }
}

/// All that the agent has and offers.
pub(crate) async fn ask(agent: &Agent) -> Result<ListImagesResponse, Failure> {
    let ask = ListImagesRequest {};
    agent
        .call(ask, READ_LIMIT, |mut client, ask| async move { client.list_images(ask).await })
        .await
}
