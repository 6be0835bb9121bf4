//! Fetching one template's image. Invariant: exit code 0 means that the image is cached and proven, and
//! its digest was told.

use clap::Args;
use ghost_proto::agentpb::{ImageProgress, PullImageRequest};

use super::follow::{Followed, Told, follow};
use crate::cli::Global;
use crate::cmds::vm::READ_LIMIT;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;

/// Options of `image pull`.
#[derive(Debug, Args)]
pub(crate) struct Pull {
    /// A template of the agent's catalogue, such as debian-12.
    template: String,
}

/// Fetches the image; with -o json and yaml each event is a document.
pub(super) async fn run(args: Pull, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let ask = PullImageRequest { template: args.template };
    let mut stream = agent
        .open(ask, READ_LIMIT, |mut client, ask| async move { client.pull_image(ask).await })
        .await?;
    match follow(&mut stream, global, tell).await? {
        Followed::Unread => Ok(Exit::Done),
        Followed::ToTheEnd(outcomes) => match outcomes.last() {
            Some(last) if last.stage == "failed" => Err(failed(last)),
            Some(_) => Ok(Exit::Done),
            None => Err(stream.hung_up()),
        },
    }
}

fn tell(outcome: &ImageProgress) -> Told {
    let since = match outcome.stage.as_str() {
        "current" => "cached already",
        "updated" => "cached now",
        // It is told as the error that the command ends with.
        _ => return Told::default(),
    };
    let (template, digest) = (&outcome.template, &outcome.digest);
    Told {
        from: None,
        line: format!("{}\n", output::printable(&format!("{template}: {since}, {digest}"))),
    }
}

fn failed(outcome: &ImageProgress) -> Failure {
    Failure::local(format!("{}: {}", outcome.template, outcome.message))
}
