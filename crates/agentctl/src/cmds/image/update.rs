//! New versions. Invariant: each template that was asked for is told, and one that failed makes the
//! command fail.

use std::collections::HashMap;

use clap::Args;
use ghost_proto::agentpb::{ImageProgress, UpdateImagesRequest};

use super::follow::{Followed, Told, follow};
use super::{ask, words};
use crate::cli::Global;
use crate::cmds::vm::READ_LIMIT;
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure};
use crate::output::{self, Format};

/// Options of `image update`.
#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Templates that are cached [default: all of these].
    #[arg(value_name = "TEMPLATE")]
    templates: Vec<String>,
}

/// What new VMs get, by template.
type Versions = HashMap<String, String>;

/// Asks for new versions; exit 1 when one failed.
pub(super) async fn run(args: Update, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let before = versions(&agent).await?;
    let ask = UpdateImagesRequest { templates: args.templates };
    let mut stream = agent
        .open(ask, READ_LIMIT, |mut client, ask| async move { client.update_images(ask).await })
        .await?;
    let Followed::ToTheEnd(outcomes) =
        follow(&mut stream, global, |outcome| tell(outcome, &before)).await?
    else {
        return Ok(Exit::Done);
    };
    if outcomes.is_empty() && global.output == Format::Table {
        output::remark("no template is cached yet, so there is nothing to update");
    }
    let failed = outcomes.iter().any(|outcome| outcome.stage == "failed");
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

async fn versions(agent: &Agent) -> Result<Versions, Failure> {
    let listed = ask(agent).await?.images.into_iter();
    let current = listed.filter(|image| image.status == "current");
    Ok(current.map(|image| (image.template, image.digest)).collect())
}

fn tell(outcome: &ImageProgress, before: &Versions) -> Told {
    let (template, digest) = (&outcome.template, words::short(&outcome.digest));
    let mut from = None;
    let line = match outcome.stage.as_str() {
        "updated" => {
            from = before.get(template).filter(|from| **from != outcome.digest);
            match from {
                Some(from) => format!("{template}: updated {} -> {digest}", words::short(from)),
                None => format!("{template}: updated to {digest}"),
            }
        }
        "failed" => format!("{template}: failed: {}", outcome.message),
        "removed" => format!("removed {digest}, freed {}", words::bytes(outcome.total_bytes)),
        stage => format!("{template}: {stage} {digest}"),
    };
    Told { from: from.cloned(), line: format!("{}\n", output::printable(&line)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stage: &str, message: &str) -> String {
        let before = Versions::from([("debian-12".to_owned(), "sha256:old".to_owned())]);
        let outcome = ImageProgress {
            template: "debian-12".to_owned(),
            stage: stage.to_owned(),
            total_bytes: 512 << 20,
            digest: format!("sha256:{}", "a".repeat(64)),
            message: message.to_owned(),
            ..Default::default()
        };
        tell(&outcome, &before).line
    }

    #[test]
    fn each_outcome_is_a_line() {
        assert_eq!(line("current", ""), "debian-12: current sha256:aaaaaaaaaaaa\n");
        assert_eq!(line("updated", ""), "debian-12: updated sha256:old -> sha256:aaaaaaaaaaaa\n");
        assert_eq!(line("failed", "404\n\u{1b}[2J"), "debian-12: failed: 404\u{fffd}\u{fffd}[2J\n");
        assert_eq!(line("removed", ""), "removed sha256:aaaaaaaaaaaa, freed 512 MiB\n");
    }

    #[test]
    fn what_was_not_there_before_is_updated_from_nothing() {
        let outcome = ImageProgress {
            template: "new".to_owned(),
            stage: "updated".to_owned(),
            digest: "sha256:ab".to_owned(),
            ..Default::default()
        };
        let told = tell(&outcome, &Versions::new());
        assert_eq!((told.from, told.line.as_str()), (None, "new: updated to sha256:ab\n"));
    }
}
