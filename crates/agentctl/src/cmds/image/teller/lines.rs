//! Lines for a log. Invariant: each stage is told when it begins, and then at most every few seconds.

use std::time::{Duration, Instant};

use ghost_proto::agentpb::ImageProgress;

use super::super::words;
use crate::output;
use crate::progress::Rate;

/// Often enough to see that it goes on, seldom enough to be read.
const EVERY: Duration = Duration::from_secs(5);

/// What was last said.
#[derive(Debug, Default)]
pub(in super::super) struct Lines {
    rate: Rate,
    said: Option<Said>,
}

#[derive(Debug)]
struct Said {
    template: String,
    stage: String,
    at: Instant,
}

impl Lines {
    /// The line to say `now`, if any.
    pub(super) fn line(&mut self, progress: &ImageProgress, now: Instant) -> Option<String> {
        let goes_on = self
            .said
            .as_ref()
            .filter(|said| (&said.template, &said.stage) == (&progress.template, &progress.stage));
        let since = goes_on.map(|said| now.duration_since(said.at));
        if since.is_none() {
            self.rate.clear();
        }
        self.rate.count(now, u64::try_from(progress.done_bytes).unwrap_or(0));
        let what = match since {
            Some(since) if since < EVERY => return None,
            Some(_) => words::doing(progress, self.rate.per_second(now)),
            None => begun(progress),
        };
        let (template, stage) = (progress.template.clone(), progress.stage.clone());
        self.said = Some(Said { template, stage, at: now });
        Some(format!("{}: {what}", output::printable(&progress.template)))
    }
}

fn begun(progress: &ImageProgress) -> String {
    let doing = words::doing(progress, None);
    match (progress.stage.as_str(), progress.url.as_str()) {
        ("downloading", "") => format!("downloading, {doing}"),
        ("downloading", url) => format!("downloading {}, {doing}", output::printable(url)),
        (_, _) => doing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(template: &str, stage: &str, done: i64) -> ImageProgress {
        ImageProgress {
            template: template.to_owned(),
            stage: stage.to_owned(),
            done_bytes: done,
            total_bytes: 1000,
            ..Default::default()
        }
    }

    /// What is said of (milliseconds, event).
    fn said(events: &[(u64, ImageProgress)]) -> Vec<Option<String>> {
        let begin = Instant::now();
        let mut lines = Lines::default();
        let mut say = |(at, progress): &(u64, ImageProgress)| {
            lines.line(progress, begin + Duration::from_millis(*at))
        };
        events.iter().map(&mut say).collect()
    }

    #[test]
    fn a_stage_is_told_when_it_begins_and_then_every_five_seconds() {
        let told = said(&[
            (0, progress("debian-12", "asking", 0)),
            (100, progress("debian-12", "downloading", 100)),
            (4000, progress("debian-12", "downloading", 400)),
            (5099, progress("debian-12", "downloading", 500)),
            (5100, progress("debian-12", "downloading", 600)),
            (9000, progress("debian-12", "downloading", 700)),
            (9001, progress("debian-12", "unpacking", 0)),
        ]);
        let expected = [
            Some("debian-12: asking the publisher"),
            Some("debian-12: downloading, 10 % of 1000 B"),
            None,
            None,
            Some("debian-12: 60 % of 1000 B, 100 B/s, 4 s left"),
            None,
            Some("debian-12: unpacking, 0 % of 1000 B"),
        ];
        assert_eq!(told.iter().map(Option::as_deref).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_next_template_begins_anew() {
        let told = said(&[
            (0, progress("debian-12", "downloading", 900)),
            (1, progress("debian-11", "downloading", 0)),
        ]);
        assert_eq!(told[1].as_deref(), Some("debian-11: downloading, 0 % of 1000 B"));
    }

    #[test]
    fn what_the_agent_sends_cannot_command_the_terminal() {
        let mut evil = progress("a\u{1b}[2J", "downloading", 0);
        evil.url = "https://mirror.example/\u{9b}2J\nx".to_owned();
        let told = said(&[(0, evil)])[0].clone().unwrap();
        assert!(!told.chars().any(char::is_control), "{told:?}");
        assert!(told.contains("mirror.example"), "{told}");
    }
}
