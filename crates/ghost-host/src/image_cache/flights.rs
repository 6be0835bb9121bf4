//! Work that many ask for and one does. Invariant: of one key one task is under way; it goes on when
//! those who asked leave, and the next who asks after its end begins another, even after a panic.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use super::ImageError;

/// What everybody who waits is told.
pub(super) type Outcome<V> = Result<V, Arc<ImageError>>;

/// Ends when the task does; dropping it stops nothing.
pub(super) type Flight<V> = Shared<BoxFuture<'static, Outcome<V>>>;

type UnderWay<K, V> = Arc<Mutex<HashMap<K, Flight<V>>>>;

/// The tasks of one sort.
#[derive(Debug)]
pub(super) struct Flights<K, V> {
    under_way: UnderWay<K, V>,
    tasks: TaskTracker,
}

impl<K, V> Flights<K, V>
where
    K: Debug + Clone + Eq + Hash + Send + 'static,
    V: Debug + Clone + Send + Sync + 'static,
{
    /// None yet; all will run on `tasks`.
    pub(super) fn new(tasks: &TaskTracker) -> Self {
        Self { under_way: UnderWay::default(), tasks: tasks.clone() }
    }

    /// The task of `key` that is under way, or else `work` as a new one.
    pub(super) fn join<F>(&self, key: &K, work: impl FnOnce() -> F) -> Flight<V>
    where
        F: Future<Output = Outcome<V>> + Send + 'static,
    {
        let start = || {
            let ends = End { under_way: Arc::clone(&self.under_way), key: key.clone() };
            // Its lines are of whoever asked first.
            let (work, tasks) = (work().in_current_span(), self.tasks.clone());
            let flight = async move {
                let task = tasks.spawn(async move {
                    let _ends = ends;
                    work.await
                });
                task.await.unwrap_or_else(|error| Err(Arc::new(ImageError::Interrupted(error))))
            };
            flight.boxed().shared()
        };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = under_way.entry(key.clone()).or_insert_with(start).clone();
        drop(under_way);
        // The first look begins the task, and not under the lock: a runtime that is shutting down drops it
        // at once, and with it the `End`, which wants the lock.
        let _maybe_ended = flight.clone().now_or_never();
        flight
    }
}

/// Forgets the task when it ends, even by a panic.
struct End<K: Eq + Hash, V> {
    under_way: UnderWay<K, V>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for End<K, V> {
    fn drop(&mut self) {
        let flight =
            self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
        // What it holds may do anything when it is dropped, but not under the lock.
        drop(flight);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn work_that_is_begun_while_the_runtime_goes_down_ends_at_once() {
        let runtime = tokio::runtime::Builder::new_multi_thread().build().unwrap();
        let handle = runtime.handle().clone();
        runtime.shutdown_background();
        let (tell, told) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let _inside = handle.enter();
            let flights: Flights<u8, u8> = Flights::new(&TaskTracker::new());
            let flight = flights.join(&1, || async { Ok(1) });
            let outcome = futures_util::FutureExt::now_or_never(flight);
            tell.send(matches!(outcome, Some(Err(_)))).unwrap();
        });
        assert!(told.recv_timeout(Duration::from_secs(20)).expect("it waits for its own lock"));
    }
}
