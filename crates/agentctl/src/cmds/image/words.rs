//! What the agent says about images, in words. Invariant: a text of here has no control character, whatever
//! the agent sent, and claims nothing that the agent did not say.

use std::time::Duration;

use ghost_proto::agentpb::ImageProgress;

use crate::output;

/// Hexadecimal digits of a digest that people compare.
const DIGITS: usize = 12;

/// Is it one of the stages that are followed by another?
pub(crate) fn is_under_way(progress: &ImageProgress) -> bool {
    !matches!(progress.stage.as_str(), "current" | "updated" | "failed" | "removed")
}

/// `sha256:` and the first digits; of what is no digest, as much.
pub(crate) fn short(digest: &str) -> String {
    let (kind, digits) = digest.split_at(digest.find(':').map_or(0, |colon| colon + 1));
    output::printable(&format!("{kind}{}", digits.chars().take(DIGITS).collect::<String>()))
}

/// An amount of bytes as it is on the wire; what is less than none is `?`.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
pub(crate) fn bytes(bytes: i64) -> String {
    output::bytes(bytes as f64)
}

/// 0 to 100 where the end is known; 100 only there.
pub(crate) fn percent(progress: &ImageProgress) -> Option<u64> {
    let total = u128::try_from(progress.total_bytes).ok().filter(|total| *total > 0)?;
    let done = u128::try_from(progress.done_bytes).unwrap_or(0).min(total);
    u64::try_from(done * 100 / total).ok()
}

/// What is being done, without the template: `43 % of 512 MiB, 12 MiB/s, 20 s left`.
pub(crate) fn doing(progress: &ImageProgress, bytes_per_second: Option<f64>) -> String {
    let amount = amount(progress, bytes_per_second);
    match progress.stage.as_str() {
        "asking" => "asking the publisher".to_owned(),
        "downloading" => amount,
        "unpacking" => format!("unpacking, {amount}"),
        "waiting" => {
            let why = match progress.message.as_str() {
                "" => String::new(),
                why => format!(" ({})", output::printable(why)),
            };
            format!("waiting to try again{why}")
        }
        other => output::printable(other),
    }
}

fn amount(progress: &ImageProgress, bytes_per_second: Option<f64>) -> String {
    let mut text = match percent(progress) {
        Some(percent) => format!("{percent} % of {}", bytes(progress.total_bytes)),
        None => bytes(progress.done_bytes.max(0)),
    };
    if let Some(rate) = bytes_per_second {
        text.push_str(&format!(", {}/s", output::bytes(rate)));
        if let Some(left) = left(progress, rate) {
            text.push_str(&format!(", {} left", output::duration(left.as_secs())));
        }
    }
    text
}

/// Until the end of the stage, if it goes on like this.
#[expect(clippy::cast_precision_loss, reason = "shown in seconds")]
fn left(progress: &ImageProgress, bytes_per_second: f64) -> Option<Duration> {
    let rest = progress.total_bytes.checked_sub(progress.done_bytes.max(0))?;
    if progress.total_bytes <= 0 || rest < 0 || bytes_per_second < 1.0 {
        return None;
    }
    Duration::try_from_secs_f64((rest as f64 / bytes_per_second).ceil()).ok()
}

/// In a table, without the amount: `fetching 43 %`, `unpacking 5 %`, `asking`.
pub(crate) fn cell(progress: &ImageProgress) -> String {
    let stage = match progress.stage.as_str() {
        "downloading" => "fetching",
        "waiting" => return "waiting to fetch".to_owned(),
        other => other,
    };
    match percent(progress) {
        Some(percent) => format!("{} {percent} %", output::printable(stage)),
        None => output::printable(stage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: i64 = 1 << 20;

    fn progress(stage: &str, done: i64, total: i64) -> ImageProgress {
        ImageProgress {
            stage: stage.to_owned(),
            done_bytes: done,
            total_bytes: total,
            ..Default::default()
        }
    }

    #[test]
    fn a_download_is_told_with_share_rate_and_rest() {
        let half = progress("downloading", 220 * MIB, 512 * MIB);
        assert_eq!(doing(&half, None), "42 % of 512 MiB");
        let rate = Some(f64::from(12 << 20));
        assert_eq!(doing(&half, rate), "42 % of 512 MiB, 12 MiB/s, 25 s left");
        assert_eq!(doing(&half, Some(0.0)), "42 % of 512 MiB, 0 B/s");
        let endless = progress("downloading", 220 * MIB, 0);
        assert_eq!(doing(&endless, rate), "220 MiB, 12 MiB/s");
    }

    #[test]
    fn the_other_stages_have_words_of_their_own() {
        assert_eq!(doing(&progress("asking", 0, 0), None), "asking the publisher");
        assert_eq!(doing(&progress("unpacking", 1, 4), None), "unpacking, 25 % of 4 B");
        let mut waiting = progress("waiting", 0, 0);
        assert_eq!(doing(&waiting, None), "waiting to try again");
        waiting.message = "503\u{1b}[2J".to_owned();
        assert_eq!(doing(&waiting, None), "waiting to try again (503\u{fffd}[2J)");
        assert_eq!(doing(&progress("new\nstage", 0, 0), None), "new\u{fffd}stage");
    }

    #[test]
    fn a_hundred_percent_is_the_end_and_nonsense_is_none() {
        for (done, total, told) in [
            (0, 1000, Some(0)),
            (999, 1000, Some(99)),
            (1000, 1000, Some(100)),
            (2000, 1000, Some(100)),
            (-5, 1000, Some(0)),
            (i64::MAX, i64::MAX, Some(100)),
            (5, 0, None),
            (5, -1, None),
        ] {
            assert_eq!(percent(&progress("", done, total)), told, "{done} of {total}");
        }
        let backwards = progress("downloading", i64::MIN, i64::MAX);
        assert!(doing(&backwards, Some(1e-300)).starts_with("0 % of 8192 PiB"));
        assert!(!doing(&backwards, Some(f64::INFINITY)).contains("inf"));
    }

    #[test]
    fn digests_are_cut_to_what_people_compare() {
        let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
        assert_eq!(short(&digest), "sha256:0123456789ab");
        assert_eq!(short("é\u{1b}234567890abcdef"), "é\u{fffd}234567890a");
        assert_eq!(short(""), "");
    }

    #[test]
    fn a_cell_says_the_stage_and_how_far_it_is() {
        assert_eq!(cell(&progress("downloading", 43, 100)), "fetching 43 %");
        assert_eq!(cell(&progress("downloading", 43, 0)), "fetching");
        assert_eq!(cell(&progress("unpacking", 5, 100)), "unpacking 5 %");
        assert_eq!(cell(&progress("waiting", 5, 100)), "waiting to fetch");
        assert_eq!(cell(&progress("asking", 0, 0)), "asking");
    }
}
