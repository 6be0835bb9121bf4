//! Looks that may take long. Invariant: of one kind there is at most one under way, so that what hangs is asked once; what it
//! found last can be read meanwhile, and for how long it has not answered.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ghost_core::ports::Clock;
use jiff::Timestamp;
use tokio::sync::Notify;

/// What is known from looks of one kind.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Seen<T> {
    /// What the last one found, and when.
    pub(super) last: Option<(T, Timestamp)>,
    /// For how long the one under way has not answered; 0 if there is none.
    pub(super) waiting: Duration,
}

impl<T> Seen<T> {
    /// When the last look ended; before that, when the first began.
    pub(super) fn at(&self, now: Timestamp) -> Timestamp {
        match &self.last {
            Some((_, at)) => *at,
            None => now.checked_sub(self.waiting).unwrap_or(now),
        }
    }
}

/// Looks of one kind.
#[derive(Debug)]
pub(super) struct Look<T> {
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner<T>>,
    /// Told after each.
    news: Arc<Notify>,
}

#[derive(Debug)]
struct Inner<T> {
    last: Option<(T, Timestamp)>,
    /// On the monotonic clock.
    began: Option<Duration>,
}

impl<T: Clone> Look<T> {
    pub(super) fn new(clock: Arc<dyn Clock>, news: Arc<Notify>) -> Self {
        Self { clock, inner: Mutex::new(Inner { last: None, began: None }), news }
    }

    /// What is known now.
    pub(super) fn seen(&self) -> Seen<T> {
        let now = self.clock.monotonic();
        let inner = self.lock();
        let waiting = inner.began.map(|began| now.saturating_sub(began)).unwrap_or_default();
        Seen { last: inner.last.clone(), waiting }
    }

    /// One look. `found` is made of what the last one found and of what this one gives.
    pub(super) async fn look<A>(
        &self,
        asking: impl Future<Output = A>,
        found: impl FnOnce(Option<T>, A, Timestamp) -> T,
    ) {
        self.lock().began = Some(self.clock.monotonic());
        let answer = asking.await;
        let now = self.clock.now();
        let mut inner = self.lock();
        let former = inner.last.take().map(|(former, _)| former);
        *inner = Inner { last: Some((found(former, answer, now), now)), began: None };
        drop(inner);
        self.news.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner<T>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
