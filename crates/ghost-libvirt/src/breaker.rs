//! The circuit breaker: spares a libvirt that does not answer, and our callers the wait.
//!
//! ```text
//!            5 outages in a row             the pause is over
//!   Closed ────────────────────▶ Open ────────────────────────▶ Probing (one call goes through)
//!     ▲  ▲                        ▲ │                              │    │
//!     │  └──────── a success ─────┼─┴──────────────────────────────┘    │
//!     └─ reconnected              └──────── an outage: a longer pause ──┘
//! ```
//!
//! Only outages count (no connection, no answer in time); a refusal proves that libvirt is there.
//! A probe that never reports back is given up after its deadline, and one whose caller leaves it after
//! a pause like the one before it. Time is the caller's, monotonic.

use std::time::Duration;

use crate::backoff::Backoff;

/// Outages in a row that open it.
const TOLERATED: u32 = 5;

/// How long it stays open.
const PAUSES: Backoff = Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(15) };

/// Decides whether a call is made.
#[derive(Debug, Default)]
pub(crate) struct Breaker(State);

/// As what a call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As one of many.
    Ordinary,
    /// To find out whether libvirt is back.
    Probe,
}

#[derive(Debug)]
enum State {
    Closed { outages: u32 },
    Open { until: Duration, trips: u32 },
    Probing { until: Duration, trips: u32 },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { outages: 0 }
    }
}

impl Breaker {
    /// Whether a call that ends after `limit` may be made `now`.
    ///
    /// # Errors
    /// How long to wait.
    pub(crate) fn admit(&mut self, now: Duration, limit: Duration) -> Result<Admission, Duration> {
        match self.0 {
            State::Closed { .. } => Ok(Admission::Ordinary),
            State::Open { until, trips } | State::Probing { until, trips } if now >= until => {
                self.0 = State::Probing { until: now + limit, trips };
                Ok(Admission::Probe)
            }
            State::Open { until, .. } | State::Probing { until, .. } => Err(until - now),
        }
    }

    /// Notes that the caller of a probe left: it says nothing, and must not keep the next one away
    /// until its deadline. `jitter` is from 0 to 1.
    pub(crate) fn forsaken(&mut self, now: Duration, jitter: f64) {
        if let State::Probing { until, trips } = self.0 {
            let until = until.min(now + PAUSES.pause(trips, jitter));
            self.0 = State::Open { until, trips };
        }
    }

    /// Notes that libvirt answered.
    pub(crate) fn succeeded(&mut self) {
        self.0 = State::default();
    }

    /// Notes an outage; `jitter` is from 0 to 1.
    pub(crate) fn failed(&mut self, now: Duration, jitter: f64) {
        let trips = match self.0 {
            State::Closed { outages } if outages + 1 < TOLERATED => {
                self.0 = State::Closed { outages: outages + 1 };
                return;
            }
            State::Closed { .. } => 0,
            // A call that was under way when it opened says nothing new.
            State::Open { .. } => return,
            State::Probing { trips, .. } => trips.saturating_add(1),
        };
        self.0 = State::Open { until: now + PAUSES.pause(trips, jitter), trips };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn opened_at(now: Duration) -> Breaker {
        let mut breaker = Breaker::default();
        (0..TOLERATED).for_each(|_| breaker.failed(now, 1.0));
        breaker
    }

    #[test]
    fn four_outages_are_borne_and_the_fifth_opens_it() {
        let mut breaker = Breaker::default();
        for _ in 1..TOLERATED {
            breaker.failed(ms(0), 1.0);
            assert_eq!(breaker.admit(ms(0), LIMIT), Ok(Admission::Ordinary));
        }
        breaker.failed(ms(0), 1.0);
        assert_eq!(breaker.admit(ms(0), LIMIT), Err(ms(500)));
    }

    #[test]
    fn a_success_between_outages_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            (1..TOLERATED).for_each(|_| breaker.failed(ms(0), 1.0));
            breaker.succeeded();
        }
        assert_eq!(breaker.admit(ms(0), LIMIT), Ok(Admission::Ordinary));
    }

    #[test]
    fn after_the_pause_one_probe_goes_through_and_no_second_one() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(breaker.admit(ms(499), LIMIT), Err(ms(1)));
        assert_eq!(breaker.admit(ms(500), LIMIT), Ok(Admission::Probe));
        assert_eq!(breaker.admit(ms(500), LIMIT), Err(LIMIT));
    }

    #[test]
    fn a_probe_that_works_closes_it_and_one_that_fails_doubles_the_pause() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(breaker.admit(ms(500), LIMIT), Ok(Admission::Probe));
        breaker.failed(ms(600), 1.0);
        assert_eq!(breaker.admit(ms(600), LIMIT), Err(ms(1000)));
        assert_eq!(breaker.admit(ms(1600), LIMIT), Ok(Admission::Probe));
        breaker.succeeded();
        assert_eq!(breaker.admit(ms(1600), LIMIT), Ok(Admission::Ordinary));
        assert_eq!(breaker.admit(ms(1600), LIMIT), Ok(Admission::Ordinary));
    }

    #[test]
    fn a_probe_that_never_reports_back_is_given_up() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(breaker.admit(ms(500), LIMIT), Ok(Admission::Probe));
        assert_eq!(breaker.admit(ms(500) + LIMIT, LIMIT), Ok(Admission::Probe));
    }

    #[test]
    fn a_probe_that_is_forsaken_is_followed_by_another_after_the_same_pause() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(breaker.admit(ms(500), LIMIT), Ok(Admission::Probe));
        breaker.forsaken(ms(600), 1.0);
        assert_eq!(breaker.admit(ms(1099), LIMIT), Err(ms(1)));
        assert_eq!(breaker.admit(ms(1100), LIMIT), Ok(Admission::Probe));
    }

    #[test]
    fn forsaking_a_probe_never_keeps_the_next_one_away_for_longer() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(breaker.admit(ms(500), LIMIT), Ok(Admission::Probe));
        breaker.forsaken(ms(500) + LIMIT - ms(1), 1.0);
        assert_eq!(breaker.admit(ms(500) + LIMIT, LIMIT), Ok(Admission::Probe));
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let mut breaker = opened_at(ms(0));
        (0..50).for_each(|_| breaker.failed(ms(400), 1.0));
        assert_eq!(breaker.admit(ms(400), LIMIT), Err(ms(100)));
    }
}
