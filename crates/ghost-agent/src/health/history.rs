//! Since when. Invariant: a moment changes only when the state that it belongs to does.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::verdict::{State, Subject, Verdict};
use super::{Check, Status};

/// A verdict, and of when what it rests on is.
#[derive(Debug, Clone)]
pub(super) struct Judged {
    pub(super) subject: Subject,
    pub(super) verdict: Verdict,
    pub(super) checked_at: Timestamp,
}

/// What was told before.
#[derive(Debug, Default)]
pub(super) struct History {
    states: BTreeMap<Subject, (State, Timestamp)>,
    status: Option<(Status, Timestamp)>,
}

impl History {
    /// The status with its moment, and the checks, the worst first.
    pub(super) fn settle(
        &mut self,
        all: Vec<Judged>,
        now: Timestamp,
    ) -> (Status, Timestamp, Vec<Check>) {
        let made = all.iter().map(|one| one.subject.makes(one.verdict.state));
        let status = made.max().unwrap_or(Status::Healthy);
        let former = self.status.filter(|(former, _)| *former == status);
        let (_, since) = *self.status.insert(former.unwrap_or((status, now)));
        let mut all = all;
        all.sort_by_key(|one| {
            let state = one.verdict.state;
            (std::cmp::Reverse((one.subject.makes(state), state)), one.subject)
        });
        (status, since, all.into_iter().map(|one| self.check(one, now)).collect())
    }

    fn check(&mut self, judged: Judged, now: Timestamp) -> Check {
        let Judged { subject, verdict: Verdict { state, message, remedy }, checked_at } = judged;
        let former = self.states.get(&subject).filter(|(former, _)| *former == state);
        let (_, since) = former.copied().unwrap_or((state, now));
        self.states.insert(subject, (state, since));
        Check { name: subject.as_str(), status: state, message, remedy, since, checked_at }
    }
}

/// How many lines of the log were lost lately.
#[derive(Debug, Default)]
pub(super) struct Lost {
    /// Totals, and when on the monotonic clock each was first seen; the first is that before the window.
    totals: Vec<(Duration, u64)>,
}

impl Lost {
    /// For how long a loss is told of.
    pub(super) const WINDOW: Duration = Duration::from_secs(600);

    /// Takes in the total at `now`, and gives what was lost within the window.
    pub(super) fn lately(&mut self, now: Duration, total: u64) -> u64 {
        if self.totals.last().is_none_or(|(_, last)| *last != total) {
            // What was lost before the first look was lost lately.
            let before = self.totals.last().map_or(0, |(_, last)| *last);
            if self.totals.is_empty() {
                self.totals.push((now, before));
            }
            self.totals.push((now, total));
        }
        let start = now.saturating_sub(Self::WINDOW);
        let old = self.totals.iter().take_while(|(at, _)| *at < start).count();
        self.totals.drain(..old.saturating_sub(1));
        self.totals.first().map_or(0, |(_, first)| total.saturating_sub(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(subject: Subject, state: State) -> Judged {
        let verdict = Verdict { state, message: String::new(), remedy: String::new() };
        Judged { subject, verdict, checked_at: Timestamp::UNIX_EPOCH }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_state_keeps_its_moment_until_it_changes() {
        let mut history = History::default();
        let mut settle = |api, second| {
            let all = vec![judged(Subject::Libvirt, State::Up), judged(Subject::Api, api)];
            let (status, since, checks) = history.settle(all, at(second));
            let moments: Vec<_> =
                checks.iter().map(|check| (check.name, check.since.as_second())).collect();
            (status, since.as_second(), moments)
        };
        assert_eq!(settle(State::Up, 1), (Status::Healthy, 1, vec![("libvirt", 1), ("api", 1)]));
        assert_eq!(settle(State::Up, 2), (Status::Healthy, 1, vec![("libvirt", 1), ("api", 1)]));
        let degraded = (Status::Degraded, 3, vec![("api", 3), ("libvirt", 1)]);
        assert_eq!(settle(State::Degraded, 3), degraded);
        let down = (Status::Degraded, 3, vec![("api", 4), ("libvirt", 1)]);
        assert_eq!(settle(State::Down, 4), down, "the whole is what it was");
        assert_eq!(settle(State::Up, 5), (Status::Healthy, 5, vec![("libvirt", 1), ("api", 5)]));
    }

    #[test]
    fn what_keeps_vms_from_being_made_comes_before_what_does_not() {
        let all = vec![
            judged(Subject::Certificate, State::Down),
            judged(Subject::Network, State::Down),
            judged(Subject::Images, State::Degraded),
            judged(Subject::Libvirt, State::Up),
        ];
        let (status, _, checks) = History::default().settle(all, at(0));
        let names: Vec<_> = checks.iter().map(|check| check.name).collect();
        assert_eq!(status, Status::Unhealthy);
        assert_eq!(names, ["network", "certificate", "images", "libvirt"]);
    }

    #[test]
    fn lost_lines_are_told_for_ten_minutes() {
        let mut lost = Lost::default();
        let mut lately = |seconds, total| lost.lately(Duration::from_secs(seconds), total);
        assert_eq!(lately(0, 0), 0);
        assert_eq!(lately(100, 7), 7);
        assert_eq!(lately(400, 9), 9);
        assert_eq!(lately(699, 9), 9);
        assert_eq!(lately(701, 9), 2, "the first seven are forgotten");
        assert_eq!(lately(1001, 9), 0);
        assert_eq!(Lost::default().lately(Duration::ZERO, 3), 3, "lost during the start");
    }
}
