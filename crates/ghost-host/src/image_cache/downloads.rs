//! How much was fetched. Invariant: a byte counts once, when it comes in: what an earlier try left does not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use ghost_core::domain::Bytes;

/// What was fetched since the cache was opened. Only grows.
#[derive(Debug, Default)]
pub struct Downloads {
    ok: AtomicU64,
    failed: AtomicU64,
    bytes: AtomicU64,
}

impl Downloads {
    /// Images that came in and were proven.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.ok.load(Ordering::Relaxed)
    }

    /// Images that did not, after all tries, those included of which the publisher's word could not be had.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Bytes of images that came in, of those that failed too.
    #[must_use]
    pub fn received(&self) -> Bytes {
        Bytes(self.bytes.load(Ordering::Relaxed))
    }

    pub(super) fn failed_before_a_file(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn ended<T, E>(&self, fetch: &Result<T, E>) {
        let counter = if fetch.is_ok() { &self.ok } else { &self.failed };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// How far one file is.
#[derive(Debug, Default)]
pub(super) struct Came(Mutex<Option<Bytes>>);

impl Came {
    /// So much is there, what an earlier try left included. The first of a try is where it begins.
    pub(super) fn reached(&self, done: Bytes, downloads: &Downloads) {
        let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(done);
        let new = before.map_or(0, |before| done.0.saturating_sub(before.0));
        downloads.bytes.fetch_add(new, Ordering::Relaxed);
    }

    /// Another try follows.
    pub(super) fn interrupted(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_earlier_try_left_does_not_count_again() {
        let (downloads, came) = (Downloads::default(), Came::default());
        let reached = |done| came.reached(Bytes(done), &downloads);
        [100, 150, 200].into_iter().for_each(reached);
        assert_eq!(downloads.received(), Bytes(100));
        came.interrupted();
        [180, 230].into_iter().for_each(reached);
        assert_eq!(downloads.received(), Bytes(150));
        // The pieces do not fit: it begins anew without a pause.
        [0, 30].into_iter().for_each(reached);
        assert_eq!(downloads.received(), Bytes(180));
    }
}
