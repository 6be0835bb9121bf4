//! What is counted since the start. Invariant: a count never goes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Counts up.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// By so many.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// So far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// All counts.
#[derive(Debug, Default)]
pub struct Counters {
    /// Heartbeats that were answered.
    pub heartbeats: Count,
    /// Events that were kept.
    pub events: Count,
    /// Agents that came in by a key.
    pub enrolments: Count,
    /// Certificates that were renewed.
    pub renewals: Count,
    /// Registrations that were accepted.
    pub registrations: Count,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

impl Counters {
    /// A call was refused for that reason.
    pub fn refused(&self, reason: &'static str) {
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner).entry(reason).or_default() +=
            1;
    }

    /// How often for each reason.
    #[must_use]
    pub fn refusals(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
