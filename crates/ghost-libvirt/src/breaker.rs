//! The circuit breaker: spares a libvirt that does not answer, and our callers the wait.
//!
//! ```text
//!            5 outages in a row,
//!           or the connection lost          the pause is over
//!   Closed ────────────────────▶ Open ────────────────────────▶ Probing (one call goes through)
//!     ▲  ▲                        ▲ │                              │    │
//!     │  └──────── a success ─────┼─┴──────────────────────────────┘    │
//!     └─ reconnected              └──────── an outage: a longer pause ──┘
//! ```
//!
//! Only outages count (no connection, no answer in time); a refusal proves that libvirt is there. A
//! probe may have to wait until its deadline, so only calls that change nothing are made as one: who
//! wants a change is answered at once.
//! A probe that never reports back is given up after its deadline, and one whose caller leaves it after
//! a pause like the one before it. Time is the caller's, monotonic.

use std::time::Duration;

use crate::backoff::Backoff;
use crate::vitals::BreakerState;

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

/// What a call is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// To look only.
    Look,
    /// To change something.
    Change,
}

/// Why no call is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cause {
    /// Too many of them failed.
    Outages,
    /// The connection for events was lost; libvirt's reason.
    Lost(&'static str),
}

/// No call is made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Why.
    pub(crate) cause: Cause,
    /// When one may be.
    pub(crate) retry_in: Duration,
}

#[derive(Debug)]
enum State {
    Closed { outages: u32 },
    Open { until: Duration, trips: u32, cause: Cause },
    Probing { until: Duration, trips: u32, cause: Cause },
}

impl Default for State {
    fn default() -> Self {
        Self::Closed { outages: 0 }
    }
}

impl Breaker {
    /// What it lets through.
    pub(crate) const fn state(&self) -> BreakerState {
        match self.0 {
            State::Closed { .. } => BreakerState::Closed,
            State::Open { .. } => BreakerState::Open,
            State::Probing { .. } => BreakerState::Probing,
        }
    }

    /// Whether a call that ends after `limit` may be made `now`.
    ///
    /// # Errors
    /// Why not, and how long to wait.
    pub(crate) fn admit(
        &mut self,
        now: Duration,
        limit: Duration,
        intent: Intent,
    ) -> Result<Admission, Refusal> {
        let (until, trips, cause) = match self.0 {
            State::Closed { .. } => return Ok(Admission::Ordinary),
            State::Open { until, trips, cause } | State::Probing { until, trips, cause } => {
                (until, trips, cause)
            }
        };
        match intent {
            Intent::Look if now >= until => {
                self.0 = State::Probing { until: now + limit, trips, cause };
                Ok(Admission::Probe)
            }
            Intent::Look => Err(Refusal { cause, retry_in: until - now }),
            // Somebody else has to probe first.
            Intent::Change => {
                let retry_in = match self.0 {
                    // It may well be back long before the probe's deadline.
                    State::Probing { .. } => PAUSES.base,
                    State::Open { .. } | State::Closed { .. } => until.saturating_sub(now),
                };
                Err(Refusal { cause, retry_in: retry_in.max(PAUSES.base) })
            }
        }
    }

    /// Notes that the caller of a probe left: it says nothing, and must not keep the next one away
    /// until its deadline. `jitter` is from 0 to 1.
    pub(crate) fn forsaken(&mut self, now: Duration, jitter: f64) {
        if let State::Probing { until, trips, cause } = self.0 {
            let until = until.min(now + PAUSES.pause(trips, jitter));
            self.0 = State::Open { until, trips, cause };
        }
    }

    /// Notes that the connection for events was lost: no need to count outages. `jitter` is from 0
    /// to 1.
    pub(crate) fn lost(&mut self, now: Duration, jitter: f64, reason: &'static str) {
        let until = now + PAUSES.pause(0, jitter);
        let new = Cause::Lost(reason);
        match &mut self.0 {
            State::Closed { .. } => self.0 = State::Open { until, trips: 0, cause: new },
            State::Open { cause, .. } | State::Probing { cause, .. } => *cause = new,
        }
    }

    /// Notes that libvirt answered.
    pub(crate) fn succeeded(&mut self) {
        self.0 = State::default();
    }

    /// Notes an outage; `jitter` is from 0 to 1.
    pub(crate) fn failed(&mut self, now: Duration, jitter: f64) {
        let (trips, cause) = match self.0 {
            State::Closed { outages } if outages + 1 < TOLERATED => {
                self.0 = State::Closed { outages: outages + 1 };
                return;
            }
            State::Closed { .. } => (0, Cause::Outages),
            // A call that was under way when it opened says nothing new.
            State::Open { .. } => return,
            State::Probing { trips, cause, .. } => (trips.saturating_add(1), cause),
        };
        self.0 = State::Open { until: now + PAUSES.pause(trips, jitter), trips, cause };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Asks for a call that only looks; a refusal says how long to wait.
    fn look(breaker: &mut Breaker, now: Duration) -> Result<Admission, Duration> {
        breaker.admit(now, LIMIT, Intent::Look).map_err(|refusal| refusal.retry_in)
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
            assert_eq!(look(&mut breaker, ms(0)), Ok(Admission::Ordinary));
        }
        breaker.failed(ms(0), 1.0);
        assert_eq!(look(&mut breaker, ms(0)), Err(ms(500)));
    }

    #[test]
    fn its_state_is_told_as_it_is() {
        let mut breaker = Breaker::default();
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker = opened_at(ms(0));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        assert_eq!(breaker.state(), BreakerState::Probing);
    }

    #[test]
    fn a_success_between_outages_starts_the_count_anew() {
        let mut breaker = Breaker::default();
        for _ in 0..3 {
            (1..TOLERATED).for_each(|_| breaker.failed(ms(0), 1.0));
            breaker.succeeded();
        }
        assert_eq!(look(&mut breaker, ms(0)), Ok(Admission::Ordinary));
    }

    #[test]
    fn after_the_pause_one_probe_goes_through_and_no_second_one() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(look(&mut breaker, ms(499)), Err(ms(1)));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        assert_eq!(look(&mut breaker, ms(500)), Err(LIMIT));
    }

    #[test]
    fn a_probe_that_works_closes_it_and_one_that_fails_doubles_the_pause() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        breaker.failed(ms(600), 1.0);
        assert_eq!(look(&mut breaker, ms(600)), Err(ms(1000)));
        assert_eq!(look(&mut breaker, ms(1600)), Ok(Admission::Probe));
        breaker.succeeded();
        assert_eq!(look(&mut breaker, ms(1600)), Ok(Admission::Ordinary));
        assert_eq!(look(&mut breaker, ms(1600)), Ok(Admission::Ordinary));
    }

    #[test]
    fn a_probe_that_never_reports_back_is_given_up() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        assert_eq!(look(&mut breaker, ms(500) + LIMIT), Ok(Admission::Probe));
    }

    #[test]
    fn a_probe_that_is_forsaken_is_followed_by_another_after_the_same_pause() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        breaker.forsaken(ms(600), 1.0);
        assert_eq!(look(&mut breaker, ms(1099)), Err(ms(1)));
        assert_eq!(look(&mut breaker, ms(1100)), Ok(Admission::Probe));
    }

    #[test]
    fn forsaking_a_probe_never_keeps_the_next_one_away_for_longer() {
        let mut breaker = opened_at(ms(0));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        breaker.forsaken(ms(500) + LIMIT - ms(1), 1.0);
        assert_eq!(look(&mut breaker, ms(500) + LIMIT), Ok(Admission::Probe));
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_do_not_lengthen_the_pause() {
        let mut breaker = opened_at(ms(0));
        (0..50).for_each(|_| breaker.failed(ms(400), 1.0));
        assert_eq!(look(&mut breaker, ms(400)), Err(ms(100)));
    }

    #[test]
    fn a_lost_connection_opens_it_at_once_and_says_so() {
        let mut breaker = Breaker::default();
        breaker.lost(ms(0), 1.0, "it went");
        let refusal = Refusal { cause: Cause::Lost("it went"), retry_in: ms(500) };
        assert_eq!(breaker.admit(ms(0), LIMIT, Intent::Look), Err(refusal));
        assert_eq!(look(&mut breaker, ms(500)), Ok(Admission::Probe));
        breaker.failed(ms(600), 1.0);
        let refusal = Refusal { retry_in: ms(1000), ..refusal };
        assert_eq!(breaker.admit(ms(600), LIMIT, Intent::Look), Err(refusal));
    }

    #[test]
    fn losing_the_connection_of_an_open_one_does_not_lengthen_the_pause() {
        let mut breaker = opened_at(ms(0));
        breaker.lost(ms(400), 1.0, "it went");
        assert_eq!(look(&mut breaker, ms(400)), Err(ms(100)));
    }

    #[test]
    fn a_change_is_never_a_probe_and_keeps_none_away() {
        let mut breaker = opened_at(ms(0));
        for now in [ms(100), ms(600), ms(60_000)] {
            let refused = breaker.admit(now, LIMIT, Intent::Change);
            let refusal = Refusal { cause: Cause::Outages, retry_in: ms(500) };
            assert_eq!(refused, Err(refusal));
        }
        assert_eq!(look(&mut breaker, ms(60_000)), Ok(Admission::Probe));
        breaker.succeeded();
        assert_eq!(breaker.admit(ms(60_000), LIMIT, Intent::Change), Ok(Admission::Ordinary));
    }
}
