//! Removing images. Invariant: what stays is told with its reason, as plainly as what went.

use clap::Args;
use ghost_proto::agentpb::{RemoveImageRequest, RemoveImageResponse};
use serde::Serialize;

use super::{DISK_LIMIT, ask, words};
use crate::cli::Global;
use crate::confirm::{self, Consent, Doing};
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure};
use crate::output;
use crate::progress::Progress;

/// Options of `image remove`.
#[derive(Debug, Args)]
pub(crate) struct Remove {
    /// A template, for all its images that no VM is based on, or a digest: sha256: and at least 12 digits.
    image: String,
    /// Do not ask; needed when there is no terminal.
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
}

/// What `image remove` prints.
#[derive(Debug, Serialize)]
struct Removed {
    image: String,
    removed: Vec<String>,
    freed_bytes: i64,
    kept: Vec<Kept>,
}

/// An image of the template that stays.
#[derive(Debug, Serialize)]
struct Kept {
    digest: String,
    /// The VMs that are based on it.
    used_by: Vec<String>,
}

/// Removes the image.
pub(super) async fn run(args: Remove, global: &Global) -> Result<Exit, Failure> {
    let image = args.image;
    let question = question(&image);
    let doing = Doing { verb: "remove", done: "removed", question: &question };
    confirm::agree(doing, Consent::of_flag(args.yes))?;
    let agent = connect::connect(global).await?;
    let ask = RemoveImageRequest { image: image.clone() };
    let call = agent
        .call(ask, DISK_LIMIT, |mut client, ask| async move { client.remove_image(ask).await });
    let answer = Progress::around(&format!("removing {image}"), call).await?;
    let RemoveImageResponse { removed, freed_bytes, kept } = answer;
    let kept = explain(&agent, kept).await;
    global.output.print(&Removed { image, removed, freed_bytes, kept }, draw)?;
    Ok(Exit::Done)
}

fn question(image: &str) -> String {
    if image.starts_with("sha256:") {
        format!("Remove the image {image}?")
    } else {
        format!("Remove the images of {image} that no VM is based on?")
    }
}

/// Which VMs it is that keep these; nobody if the agent does not say.
async fn explain(agent: &Agent, kept: Vec<String>) -> Vec<Kept> {
    let images = match kept.as_slice() {
        [] => Vec::new(),
        [..] => ask(agent).await.map_or_else(|_| Vec::new(), |listed| listed.images),
    };
    let used_by = |digest: &String| {
        let image = images.iter().find(|image| image.digest == *digest);
        image.map_or_else(Vec::new, |image| image.used_by.clone())
    };
    kept.into_iter().map(|digest| Kept { used_by: used_by(&digest), digest }).collect()
}

fn draw(removed: &Removed) -> String {
    let mut lines: Vec<String> =
        removed.removed.iter().map(|digest| format!("removed {}", words::short(digest))).collect();
    if removed.removed.is_empty() {
        lines.push(format!("{}: nothing was removed", removed.image));
    } else {
        lines.push(format!("freed {}", words::bytes(removed.freed_bytes)));
    }
    for kept in &removed.kept {
        let why = match kept.used_by.as_slice() {
            [] => "VMs are based on it".to_owned(),
            [vm] => format!("{vm} is based on it"),
            vms => format!("{} are based on it", vms.join(", ")),
        };
        lines.push(format!("kept {}: {why}", words::short(&kept.digest)));
    }
    lines.iter().map(|line| format!("{}\n", output::printable(line))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_and_what_stays_is_told() {
        let kept = |vms: &[&str]| Kept {
            digest: "sha256:0123456789abcdef".to_owned(),
            used_by: vms.iter().map(|vm| (*vm).to_owned()).collect(),
        };
        let mut removed = Removed {
            image: "debian-12".to_owned(),
            removed: vec!["sha256:ffffffffffffffff".to_owned()],
            freed_bytes: 512 << 20,
            kept: vec![kept(&[]), kept(&["web-1"]), kept(&["web-1", "evil\n"])],
        };
        assert_eq!(
            draw(&removed),
            "removed sha256:ffffffffffff\nfreed 512 MiB\n\
             kept sha256:0123456789ab: VMs are based on it\n\
             kept sha256:0123456789ab: web-1 is based on it\n\
             kept sha256:0123456789ab: web-1, evil\u{fffd} are based on it\n"
        );
        (removed.removed, removed.kept) = (Vec::new(), Vec::new());
        assert_eq!(draw(&removed), "debian-12: nothing was removed\n");
    }
}
