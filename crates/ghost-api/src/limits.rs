//! How often may be called. Invariant: what is written to the disk for a caller is limited for that
//! caller; enrolments, whose callers are nobody yet, for each address and for all.

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::domain::AgentId;
use crate::refusal::Refusal;

/// Callers are kept apart up to that many; then those that have not called lately are forgotten.
const CALLERS: usize = 16_384;

/// So many calls a minute, as many at once.
#[derive(Debug, Clone, Copy)]
pub struct PerMinute(pub NonZeroU32);

/// The limits.
#[derive(Debug, Clone, Copy)]
pub struct Rates {
    /// Enrolments from one address: a host enrols once.
    pub enrol_per_address: PerMinute,
    /// Enrolments of all: each costs a check of a signature, about 0.1 ms.
    pub enrol_all: PerMinute,
    /// Registrations and renewals of one agent: one at each reconnection.
    pub changes: PerMinute,
    /// Reports of events of one agent, each a write to the disk.
    pub reports: PerMinute,
}

impl Default for Rates {
    fn default() -> Self {
        let per_minute = |n| PerMinute(NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN));
        Self {
            enrol_per_address: per_minute(30),
            enrol_all: per_minute(1200),
            changes: per_minute(60),
            reports: per_minute(600),
        }
    }
}

type Keyed<K> = RateLimiter<K, HashMapStateStore<K>, DefaultClock>;

/// The state of all limits.
#[derive(Debug)]
pub struct Limits {
    enrol_per_address: Keyed<IpAddr>,
    enrol_all: DefaultDirectRateLimiter,
    changes: Keyed<AgentId>,
    reports: Keyed<AgentId>,
    clock: DefaultClock,
}

impl Limits {
    /// None used up yet.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let quota = |rate: PerMinute| Quota::per_minute(rate.0);
        Self {
            enrol_per_address: RateLimiter::hashmap(quota(rates.enrol_per_address)),
            enrol_all: RateLimiter::direct(quota(rates.enrol_all)),
            changes: RateLimiter::hashmap(quota(rates.changes)),
            reports: RateLimiter::hashmap(quota(rates.reports)),
            clock: DefaultClock::default(),
        }
    }

    /// # Errors
    /// [`Refusal::TooOften`].
    pub fn enrol(&self, from: IpAddr) -> Result<(), Refusal> {
        self.keyed(&self.enrol_per_address, &from.to_canonical())?;
        let now = self.clock.now();
        self.enrol_all.check().map_err(|not_yet| Refusal::TooOften(not_yet.wait_time_from(now)))
    }

    /// # Errors
    /// [`Refusal::TooOften`].
    pub fn change(&self, agent: AgentId) -> Result<(), Refusal> {
        self.keyed(&self.changes, &agent)
    }

    /// # Errors
    /// [`Refusal::TooOften`].
    pub fn report(&self, agent: AgentId) -> Result<(), Refusal> {
        self.keyed(&self.reports, &agent)
    }

    fn keyed<K: Hash + Eq + Clone>(&self, limit: &Keyed<K>, key: &K) -> Result<(), Refusal> {
        if limit.len() > CALLERS {
            limit.retain_recent();
        }
        let wait = |not_yet: governor::NotUntil<_>| not_yet.wait_time_from(self.clock.now());
        limit
            .check_key(key)
            .map_err(|not_yet| Refusal::TooOften(wait(not_yet).max(Duration::from_millis(1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_that_tries_too_often_waits_and_others_do_not() {
        let limits = Limits::new(Rates::default());
        let (one, other) = ([100, 64, 0, 1].into(), [100, 64, 0, 2].into());
        (0..30).for_each(|_| limits.enrol(one).unwrap());
        assert!(matches!(limits.enrol(one), Err(Refusal::TooOften(wait)) if !wait.is_zero()));
        let same: IpAddr = "::ffff:100.64.0.1".parse().unwrap();
        assert!(limits.enrol(same).is_err());
        limits.enrol(other).unwrap();
    }

    #[test]
    fn many_addresses_together_are_limited_too() {
        let limits = Limits::new(Rates::default());
        let tries = (0..2000_u32).map(|n| limits.enrol(IpAddr::from(n.to_be_bytes())));
        let accepted = tries.filter(Result::is_ok).count();
        assert!((1200..1300).contains(&accepted), "{accepted}");
    }
}
