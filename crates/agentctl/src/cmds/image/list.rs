//! Templates and images. Invariant: what is in quarantine or on its way is shown in any case.

use clap::Args;
use ghost_proto::agentpb::{ImageInfo, ImageProgress, ListImagesResponse};
use jiff::Timestamp;
use serde::Serialize;

use super::{ask, words};
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;

/// Names of VMs in a cell; of more, how many.
const NAMES: usize = 2;

/// Options of `image list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Also images that no new VM gets: former versions, and those of no template.
    #[arg(short, long)]
    all: bool,
}

/// What is shown to people; documents have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    Offered,
    All,
}

/// All images as documents show them.
#[derive(Debug, Serialize)]
struct Listed {
    images: Vec<Image>,
    total_bytes: i64,
    limit_bytes: i64,
}

/// An image as documents show it; the fields are those of the wire contract.
#[derive(Debug, Serialize)]
struct Image {
    template: String,
    status: String,
    digest: String,
    size_bytes: i64,
    disk_bytes: i64,
    url: String,
    proof: String,
    fetched_at: String,
    used_at: String,
    verified_at: String,
    used_by: Vec<String>,
    default_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Progress>,
}

/// A fetch under way as documents show it.
#[derive(Debug, Serialize)]
struct Progress {
    stage: String,
    done_bytes: i64,
    total_bytes: i64,
    url: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip)]
    cell: String,
}

impl From<ImageProgress> for Progress {
    fn from(progress: ImageProgress) -> Self {
        let cell = words::cell(&progress);
        let ImageProgress { stage, done_bytes, total_bytes, url, message, .. } = progress;
        Self { stage, done_bytes, total_bytes, url, message, cell }
    }
}

impl From<ImageInfo> for Image {
    fn from(image: ImageInfo) -> Self {
        Self {
            template: image.template,
            status: image.status,
            digest: image.digest,
            size_bytes: image.size_bytes,
            disk_bytes: image.disk_bytes,
            url: image.url,
            proof: image.proof,
            fetched_at: image.fetched_at,
            used_at: image.used_at,
            verified_at: image.verified_at,
            used_by: image.used_by,
            default_user: image.default_user,
            reason: image.reason,
            progress: image.progress.map(Progress::from),
        }
    }
}

impl From<ListImagesResponse> for Listed {
    fn from(listed: ListImagesResponse) -> Self {
        let ListImagesResponse { images, total_bytes, limit_bytes } = listed;
        let images = images.into_iter().map(Image::from).collect();
        Self { images, total_bytes, limit_bytes }
    }
}

/// Prints the images.
pub(super) async fn run(args: &List, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let listed = Listed::from(ask(&agent).await?);
    let scope = if args.all { Scope::All } else { Scope::Offered };
    global.output.print(&listed, |listed| draw(listed, scope, Timestamp::now()))?;
    Ok(Exit::Done)
}

impl Image {
    fn is_shown(&self, scope: Scope) -> bool {
        let hidden = matches!(self.status.as_str(), "former" | "unused");
        scope == Scope::All || !hidden || self.progress.is_some()
    }

    fn row(&self, now: Timestamp) -> Vec<String> {
        let known = |bytes: i64| if bytes > 0 { words::bytes(bytes) } else { "-".to_owned() };
        let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
        vec![
            or_dash(self.template.clone()),
            self.status_cell(),
            known(self.size_bytes),
            known(self.disk_bytes),
            age(&self.fetched_at, now),
            or_dash(few(&self.used_by)),
            or_dash(words::short(&self.digest)),
        ]
    }

    fn status_cell(&self) -> String {
        match (&self.progress, self.status.as_str()) {
            (None, status) => status.to_owned(),
            (Some(progress), "absent") => progress.cell.clone(),
            (Some(progress), status) => format!("{status}, {}", progress.cell),
        }
    }
}

/// How long ago that was; a moment that lies ahead is now.
fn age(moment: &str, now: Timestamp) -> String {
    match moment.parse::<Timestamp>() {
        Ok(then) => output::duration(
            u64::try_from(now.as_second().saturating_sub(then.as_second())).unwrap_or(0),
        ),
        Err(_) if moment.is_empty() => "-".to_owned(),
        Err(_) => "?".to_owned(),
    }
}

fn few(names: &[String]) -> String {
    match names.split_at_checked(NAMES) {
        Some((first, more)) if !more.is_empty() => {
            format!("{}, +{}", first.join(", "), more.len())
        }
        Some(_) | None => names.join(", "),
    }
}

fn draw(listed: &Listed, scope: Scope, now: Timestamp) -> String {
    let (shown, hidden): (Vec<&Image>, Vec<&Image>) =
        listed.images.iter().partition(|image| image.is_shown(scope));
    let rows: Vec<Vec<String>> = shown.iter().map(|image| image.row(now)).collect();
    let head = ["TEMPLATE", "STATUS", "SIZE", "DISK", "FETCHED", "USED BY", "DIGEST"];
    let mut drawn = output::table(&head, &rows);
    for image in shown.iter().filter(|image| !image.reason.is_empty()) {
        let name = if image.template.is_empty() { &image.digest } else { &image.template };
        drawn.push_str(&output::printable(&format!("{name}: {}", image.reason)));
        drawn.push('\n');
    }
    let mut foot = format!("{} on disk", words::bytes(listed.total_bytes));
    if listed.limit_bytes > 0 {
        foot.push_str(&format!(", at most {}", words::bytes(listed.limit_bytes)));
    }
    if !hidden.is_empty() {
        foot.push_str(&format!("; {} former or unused not shown (--all)", hidden.len()));
    }
    drawn.push_str(&foot);
    drawn.push('\n');
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-10T12:00:00Z";

    fn image(template: &str, status: &str) -> ImageInfo {
        ImageInfo { template: template.to_owned(), status: status.to_owned(), ..Default::default() }
    }

    fn drawn(images: Vec<ImageInfo>, scope: Scope) -> Vec<String> {
        let listed = ListImagesResponse { images, total_bytes: 1 << 30, limit_bytes: 0 };
        let drawn = draw(&Listed::from(listed), scope, NOW.parse().unwrap());
        drawn.lines().map(str::to_owned).collect()
    }

    #[test]
    fn former_and_unused_images_are_shown_on_demand_only() {
        let all = || ["current", "former", "quarantined", "absent", "unused"].map(|s| image(s, s));
        let names = |scope| -> Vec<String> {
            let lines = drawn(all().to_vec(), scope);
            let first = |line: &String| line.split(' ').next().unwrap().to_owned();
            lines[1..lines.len() - 1].iter().map(first).collect()
        };
        assert_eq!(names(Scope::Offered), ["current", "quarantined", "absent"]);
        assert_eq!(names(Scope::All), ["current", "former", "quarantined", "absent", "unused"]);
        let foot = drawn(all().to_vec(), Scope::Offered).pop().unwrap();
        assert_eq!(foot, "1 GiB on disk; 2 former or unused not shown (--all)");
    }

    #[test]
    fn a_fetch_is_shown_whatever_it_is_for() {
        let fetching = |status| ImageInfo {
            progress: Some(ImageProgress {
                stage: "downloading".to_owned(),
                done_bytes: 43,
                total_bytes: 100,
                ..Default::default()
            }),
            ..image("t", status)
        };
        let lines = drawn(["absent", "current", "former"].map(fetching).to_vec(), Scope::Offered);
        assert!(lines[1].contains("  fetching 43 %  "), "{lines:?}");
        assert!(lines[2].contains("  current, fetching 43 %  "), "{lines:?}");
        assert!(lines[3].contains("  former, fetching 43 %  "), "{lines:?}");
    }

    #[test]
    fn ages_are_never_negative_and_never_invented() {
        let now = NOW.parse().unwrap();
        for (moment, told) in [
            ("2026-01-07T11:00:00Z", "3 d 1 h"),
            ("2026-01-10T12:00:59Z", "0 s"),
            ("", "-"),
            ("yesterday", "?"),
        ] {
            assert_eq!(age(moment, now), told, "{moment}");
        }
    }

    #[test]
    fn many_users_are_counted() {
        let names: Vec<String> = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
        assert_eq!(few(&names), "a, b, +2");
        assert_eq!(few(&names[..2]), "a, b");
        assert_eq!(few(&[]), "");
    }

    #[test]
    fn a_reason_cannot_forge_a_line() {
        let mut evil = image("t", "quarantined");
        evil.reason = "size changed\ndebian-12  current\u{1b}[2J".to_owned();
        let lines = drawn(vec![evil], Scope::Offered);
        assert_eq!(lines[2], "t: size changed\u{fffd}debian-12  current\u{fffd}[2J");
    }
}
