//! How often may be called. Invariant: what is written to the disk for a caller is limited for that
//! caller; enrolments, whose callers are nobody yet, for each address and for all.

use std::fmt;
use std::hash::Hash;
use std::net::IpAddr;
use std::num::{NonZeroU32, ParseIntError};
use std::str::FromStr;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::state::keyed::HashMapStateStore;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

use crate::domain::AgentId;
use crate::refusal::Refusal;

/// Callers are kept apart up to that many; then those that have not called lately are forgotten.
const CALLERS: usize = 16_384;

/// So many calls a minute, as many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PerMinute(pub NonZeroU32);

impl fmt::Display for PerMinute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for PerMinute {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

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

impl Rates {
    /// With so many enrolments from one address, and no fewer of all.
    #[must_use]
    pub fn with_enrolments(self, from_one: PerMinute) -> Self {
        Self { enrol_per_address: from_one, enrol_all: self.enrol_all.max(from_one), ..self }
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
    fn one_address_enrols_as_many_as_the_operator_says_though_they_be_more_than_of_all() {
        let rates = Rates::default().with_enrolments("2000".parse().unwrap());
        let limits = Limits::new(rates);
        let one = [100, 64, 0, 1].into();
        let tries = (0..3000).map(|_| limits.enrol(one));
        let accepted = tries.filter(Result::is_ok).count();
        assert!((2000..2200).contains(&accepted), "{accepted}");
        let few = Rates::default().with_enrolments("1".parse().unwrap());
        assert_eq!(few.enrol_all, Rates::default().enrol_all);
        assert!("0".parse::<PerMinute>().is_err());
    }

    #[test]
    fn many_addresses_together_are_limited_too() {
        let limits = Limits::new(Rates::default());
        let tries = (0..2000_u32).map(|n| limits.enrol(IpAddr::from(n.to_be_bytes())));
        let accepted = tries.filter(Result::is_ok).count();
        assert!((1200..1300).contains(&accepted), "{accepted}");
    }
}
