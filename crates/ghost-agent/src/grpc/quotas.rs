//! How often may be called. Reads and changes are counted apart, each per identity and for all together;
//! changes are also held to so many at once, in the order in which they came.
//!
//! Invariant: a refusal costs no lock that a command waits for, and says when to try again.

use std::num::NonZeroU32;

use ghost_core::domain::{AppError, ErrorKind};
use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::Rates;

/// Identities are kept apart up to that many; then those that have not called lately are forgotten.
const IDENTITIES: usize = 1024;
/// How many seconds' worth of changes may come at once.
const BURST: u32 = 5;

type PerIdentity = RateLimiter<String, HashMapStateStore<String>, DefaultClock>;

/// One kind of calls.
#[derive(Debug)]
struct Pace {
    what: &'static str,
    each: PerIdentity,
    all: DefaultDirectRateLimiter,
    clock: DefaultClock,
}

impl Pace {
    fn new(what: &'static str, each: Quota, all: Quota) -> Self {
        Self {
            what,
            each: RateLimiter::hashmap(each),
            all: RateLimiter::direct(all),
            clock: DefaultClock::default(),
        }
    }

    fn check(&self, identity: &str) -> Result<(), AppError> {
        if self.each.len() > IDENTITIES {
            self.each.retain_recent();
        }
        let now = self.clock.now();
        if let Err(not_yet) = self.each.check_key(&identity.to_owned()) {
            return Err(self.refusal("you", not_yet.wait_time_from(now)));
        }
        self.all
            .check()
            .map_err(|not_yet| self.refusal("all clients together", not_yet.wait_time_from(now)))
    }

    fn refusal(&self, who: &str, wait: std::time::Duration) -> AppError {
        let message = format!("too many {}: {who} may make no more for now", self.what);
        AppError::new(ErrorKind::TooManyCalls, message)
            .remedy("call less often, or raise the limits in the agent's config")
            .with("retry_after_ms", wait.as_millis().max(1))
    }
}

/// The limits of all calls.
#[derive(Debug)]
pub struct Quotas {
    reads: Pace,
    changes: Pace,
    at_once: Semaphore,
}

impl Quotas {
    /// As configured.
    #[must_use]
    pub fn new(rates: &Rates) -> Self {
        let per_second = |n: u32| Quota::per_second(positive(n));
        let bursts = |n: u32| per_second(n).allow_burst(positive(n.saturating_mul(BURST)));
        Self {
            reads: Pace::new(
                "reads",
                per_second(rates.client_reads_per_s),
                per_second(rates.all_reads_per_s),
            ),
            changes: Pace::new(
                "changes",
                bursts(rates.client_changes_per_s),
                bursts(rates.all_changes_per_s),
            ),
            at_once: Semaphore::new(rates.changes_at_once as usize),
        }
    }

    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED`, with the time to wait.
    pub(super) fn read(&self, identity: &str) -> Result<(), AppError> {
        self.reads.check(identity)
    }

    /// # Errors
    /// `RESOURCE_LIMIT_EXCEEDED`, with the time to wait.
    pub(super) fn change(&self, identity: &str) -> Result<(), AppError> {
        self.changes.check(identity)
    }

    /// Waits for its turn among the changes; first come, first served.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // Never closed.
        self.at_once.acquire().await.ok()
    }
}

/// The configuration admits no 0.
fn positive(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quotas() -> Quotas {
        Quotas::new(&Rates {
            client_reads_per_s: 3,
            all_reads_per_s: 5,
            client_changes_per_s: 1,
            all_changes_per_s: 100,
            changes_at_once: 1,
        })
    }

    #[test]
    fn one_client_that_reads_too_often_is_told_when_to_try_again_and_others_go_on() {
        let quotas = quotas();
        (0..3).for_each(|_| quotas.read("anna").unwrap());
        let refused = quotas.read("anna").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::TooManyCalls);
        assert!(
            refused.context().iter().any(|(key, value)| *key == "retry_after_ms" && value != "0")
        );
        quotas.read("bert").unwrap();
    }

    #[test]
    fn all_together_are_limited_too_and_changes_apart_from_reads() {
        let quotas = quotas();
        (0..3).for_each(|_| quotas.read("anna").unwrap());
        (0..2).for_each(|_| quotas.read("bert").unwrap());
        let refused = quotas.read("carl").unwrap_err().to_string();
        assert!(refused.contains("all clients together"), "{refused}");
        (0..5).for_each(|_| quotas.change("anna").unwrap());
        assert!(quotas.change("anna").unwrap_err().to_string().contains("too many changes"));
    }

    #[test]
    fn made_up_identities_do_not_pile_up() {
        let quotas = Quotas::new(&Rates {
            client_reads_per_s: 1_000_000,
            all_reads_per_s: 1_000_000,
            client_changes_per_s: 1,
            all_changes_per_s: 1,
            changes_at_once: 1,
        });
        for n in 0..10 * IDENTITIES {
            quotas.read(&n.to_string()).unwrap();
        }
        assert!(quotas.reads.each.len() <= 2 * IDENTITIES, "{}", quotas.reads.each.len());
    }

    #[tokio::test]
    async fn changes_take_turns() {
        let quotas = quotas();
        let first = quotas.turn().await;
        assert!(futures_util::FutureExt::now_or_never(quotas.turn()).is_none());
        drop(first);
        assert!(futures_util::FutureExt::now_or_never(quotas.turn()).is_some());
    }
}
