//! Whether and when to try again. Invariant: the tries end, unless each brings the file on.

use std::time::Duration;

use ghost_core::domain::{Bytes, cause};
use ghost_core::ports::Clock;
use jiff::Timestamp;
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, RETRY_AFTER};
use url::Url;

use super::{ImageError, shown};

/// The longest first pause; the next ones may be twice as long, and so on.
const BASE: Duration = Duration::from_secs(1);
/// The longest pause.
const CAP: Duration = Duration::from_secs(30);
/// The longest pause that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(60);
/// A try that brings the file on by so much makes up for the failed ones.
const PROGRESS: u64 = 1 << 20;

/// A try that failed.
#[derive(Debug)]
pub(super) struct Failure {
    error: ImageError,
    asked_pause: Duration,
}

impl From<ImageError> for Failure {
    fn from(error: ImageError) -> Self {
        Self { error, asked_pause: Duration::ZERO }
    }
}

impl Failure {
    /// Whether what has come can't be a part of the file.
    pub(super) const fn refutes_the_part(&self) -> bool {
        matches!(self.error, ImageError::TooLarge { .. })
    }

    /// An answer that is not the file.
    pub(super) fn status(url: &Url, answer: &reqwest::Response, clock: &dyn Clock) -> Self {
        let error = ImageError::Status { url: shown(url), status: answer.status() };
        Self { error, asked_pause: asked_pause(answer.headers(), clock.now()) }
    }
}

/// How long `Retry-After` asks to wait, at most [`LONGEST_ASKED`]. A date is taken by the server's own
/// clock, since either may be wrong.
fn asked_pause(headers: &HeaderMap, now: Timestamp) -> Duration {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let date = |text| jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp());
    let asked = text(RETRY_AFTER).and_then(|after| match after.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => {
            let servers_now = text(DATE).and_then(date).unwrap_or(now);
            Duration::try_from(date(after)?.duration_since(servers_now)).ok()
        }
    });
    asked.unwrap_or_default().min(LONGEST_ASKED)
}

/// Whether another try may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    Transient,
    Permanent,
}

const fn nature(error: &ImageError) -> Nature {
    match error {
        ImageError::Unreachable { .. }
        | ImageError::BrokeOff { .. }
        | ImageError::Stalled { .. }
        | ImageError::Crawls { .. } => Nature::Transient,
        ImageError::Status { status, .. } => of_status(*status),
        ImageError::Disk(_)
        | ImageError::Unreadable { .. }
        | ImageError::NoRegularFile { .. }
        | ImageError::Client(_)
        | ImageError::TooSlow { .. }
        | ImageError::TooLarge { .. }
        | ImageError::NoSpace { .. }
        | ImageError::WrongChecksum { .. }
        | ImageError::Unfit { .. }
        | ImageError::NotCached { .. }
        | ImageError::Current { .. }
        | ImageError::Held { .. }
        | ImageError::InUse { .. }
        | ImageError::Encode(_)
        | ImageError::Damaged { .. }
        | ImageError::Unlisted { .. }
        | ImageError::NoKey { .. }
        | ImageError::Forged { .. }
        | ImageError::Replayed { .. }
        | ImageError::Interrupted(_)
        | ImageError::Untrusted { .. }
        | ImageError::Tls { .. }
        | ImageError::Redirect { .. }
        | ImageError::Encoded { .. }
        | ImageError::LongDocument { .. }
        | ImageError::Empty { .. }
        | ImageError::DiskFull { .. }
        | ImageError::PartChanged { .. } => Nature::Permanent,
    }
}

const fn of_status(status: StatusCode) -> Nature {
    match status.as_u16() {
        // Request Timeout, Too Early, Too Many Requests, and whatever is the server's own fault.
        408 | 425 | 429 | 500..=599 => Nature::Transient,
        _ => Nature::Permanent,
    }
}

/// The time until the next try.
#[derive(Debug)]
pub(super) struct Pause {
    pub(super) time: Duration,
    /// Why, in one line.
    pub(super) failed: String,
}

/// Counts the tries of one fetch.
#[derive(Debug)]
pub(super) struct Retries {
    attempts: u32,
    failed: u32,
    furthest: u64,
}

impl Retries {
    /// So many tries in a row, the first one included.
    pub(super) fn new(attempts: u32) -> Self {
        Self { attempts, failed: 0, furthest: 0 }
    }

    /// The file is so long now. What comes a second time is no progress.
    pub(super) fn reached(&mut self, length: Bytes) {
        if length.0 >= self.furthest.saturating_add(PROGRESS) {
            self.furthest = length.0;
            self.failed = 0;
        }
    }

    /// How long to wait for the next try.
    ///
    /// # Errors
    /// The failure, if there is to be none.
    pub(super) fn pause_after(&mut self, failure: Failure, url: &Url) -> Result<Pause, ImageError> {
        self.failed += 1;
        match nature(&failure.error) {
            Nature::Transient if self.failed < self.attempts => {}
            Nature::Transient | Nature::Permanent => return Err(failure.error),
        }
        let time = jitter(self.failed).max(failure.asked_pause);
        let failed = failure.error.to_string();
        tracing::info!(url = %shown(url), error = cause(&failure.error), pause = ?time, "the download is tried again");
        Ok(Pause { time, failed })
    }
}

/// Anything up to the doubled pause, so that many agents do not come back at once.
fn jitter(failed: u32) -> Duration {
    let most = BASE.saturating_mul(1 << failed.saturating_sub(1).min(16)).min(CAP);
    most.mul_f64(fastrand::f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(headers: &[(HeaderName, &str)], now: &str) -> u64 {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        asked_pause(&headers.collect(), now.parse().unwrap()).as_secs()
    }

    const NOON: &str = "Wed, 21 Oct 2026 12:00:00 GMT";
    const SOON: &str = "Wed, 21 Oct 2026 12:00:20 GMT";

    #[test]
    fn a_pause_asked_for_by_date_is_taken_by_the_servers_clock_however_wrong_ours_is() {
        for ours in ["1970-01-01T00:00:00Z", "2026-10-21T12:00:00Z", "2099-01-01T00:00:00Z"] {
            assert_eq!(asked(&[(RETRY_AFTER, SOON), (DATE, NOON)], ours), 20, "{ours}");
        }
    }

    #[test]
    fn without_the_servers_clock_a_wrong_one_of_ours_costs_a_minute_at_most() {
        assert_eq!(asked(&[(RETRY_AFTER, SOON)], "1970-01-01T00:00:00Z"), 60);
        assert_eq!(asked(&[(RETRY_AFTER, SOON)], "2099-01-01T00:00:00Z"), 0);
    }

    #[test]
    fn a_pause_in_seconds_is_cut_to_a_minute_and_nonsense_is_none() {
        let seconds = |text| asked(&[(RETRY_AFTER, text)], "2026-10-21T12:00:00Z");
        assert_eq!(seconds("7"), 7);
        assert_eq!(seconds("86400"), 60);
        for nonsense in ["", "-5", "soon", "99999999999999999999999"] {
            assert_eq!(seconds(nonsense), 0, "{nonsense}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_cap_and_are_drawn_at_random() {
        for (failed, most) in [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (1000, 30)] {
            let drawn: Vec<Duration> = (0..200).map(|_| jitter(failed)).collect();
            let (least, longest) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
            let most = Duration::from_secs(most);
            assert!(*longest <= most && *longest > most / 2, "{failed}: {longest:?}");
            assert!(*least < most / 2, "{failed}: {least:?}");
        }
    }
}
