//! Comparing images with their digests. Invariant: exit code 0 means that each was read whole and is what
//! its digest says.

use clap::Args;
use ghost_proto::agentpb::{VerifiedImage, VerifyImageRequest};
use serde::Serialize;

use super::{DISK_LIMIT, words};
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;
use crate::progress::Progress;

/// Options of `image verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// A template, or a digest: sha256: and at least 12 digits [default: all images].
    #[arg(default_value = "", hide_default_value = true)]
    image: String,
}

/// An image as documents show it.
#[derive(Debug, Serialize)]
struct Verdict {
    digest: String,
    templates: Vec<String>,
    status: String,
    read_bytes: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<VerifiedImage> for Verdict {
    fn from(image: VerifiedImage) -> Self {
        let VerifiedImage { digest, templates, status, reason, read_bytes } = image;
        Self { digest, templates, status, read_bytes, reason }
    }
}

/// Prints a verdict an image; exit 1 unless all are proven.
pub(super) async fn run(args: Verify, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let doing = match args.image.as_str() {
        "" => "verifying all images".to_owned(),
        image => format!("verifying {image}"),
    };
    let ask = VerifyImageRequest { image: args.image };
    let call = agent
        .call(ask, DISK_LIMIT, |mut client, ask| async move { client.verify_image(ask).await });
    let answer = Progress::around(&doing, call).await?;
    let verdicts: Vec<Verdict> = answer.images.into_iter().map(Verdict::from).collect();
    global.output.print(&verdicts, |verdicts| draw(verdicts))?;
    let proven = verdicts.iter().all(|verdict| verdict.status == "proven");
    Ok(if proven { Exit::Done } else { Exit::Failed })
}

fn draw(verdicts: &[Verdict]) -> String {
    let row = |verdict: &Verdict| {
        let templates = match verdict.templates.as_slice() {
            [] => "-".to_owned(),
            names => names.join(", "),
        };
        vec![
            words::short(&verdict.digest),
            templates,
            verdict.status.clone(),
            words::bytes(verdict.read_bytes),
        ]
    };
    let rows: Vec<Vec<String>> = verdicts.iter().map(row).collect();
    let mut drawn = output::table(&["DIGEST", "TEMPLATES", "VERDICT", "READ"], &rows);
    for verdict in verdicts.iter().filter(|verdict| !verdict.reason.is_empty()) {
        let reason = format!("{}: {}", words::short(&verdict.digest), verdict.reason);
        drawn.push_str(&output::printable(&reason));
        drawn.push('\n');
    }
    drawn
}
