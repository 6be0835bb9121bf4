//! Blocking calls of libvirt, made on threads of their own.
//!
//! Invariants: the caller has an answer at its deadline, whatever libvirt does; a call that hangs
//! beyond it costs one thread and starves nobody, because a fresh worker takes its place (up to
//! [`MOST_WORKERS`]); a call that nobody waits for any more is not begun. A call that was begun and
//! given up may still take effect: what is built on this must be idempotent.

mod queue;
mod worker;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::backoff::jitter;
use crate::breaker::Breaker;
use crate::connections::Connections;
use crate::failure::Failure;
use crate::sys::Conn;
use queue::{Job, Queue};

/// Workers while nothing hangs; each has a connection of its own.
const WORKERS: usize = 4;
/// Workers at most, hung ones included.
const MOST_WORKERS: usize = 16;

/// How long calls may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Questions and small changes.
    pub(crate) quick: Duration,
    /// Starting, defining, destroying, making volumes.
    pub(crate) slow: Duration,
}

impl Limits {
    const fn of(&self, effort: Effort) -> Duration {
        match effort {
            Effort::Quick => self.quick,
            Effort::Slow => self.slow,
        }
    }
}

/// Which of the [`Limits`] holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Quick,
    Slow,
}

/// Makes the calls.
#[derive(Debug)]
pub(crate) struct Executor {
    queue: Arc<Queue>,
    connections: Arc<Connections>,
    breaker: Mutex<Breaker>,
    limits: Limits,
    epoch: Instant,
}

impl Executor {
    /// Starts the workers; connections are opened when they are first needed.
    pub(crate) fn start(connections: Arc<Connections>, limits: Limits) -> Result<Self, Failure> {
        let queue = Arc::new(Queue::default());
        for _ in 0..WORKERS {
            worker::spawn(&queue, &connections).map_err(worker::no_thread)?;
        }
        let more = Arc::clone(&connections);
        queue.replace_with(move |queue| worker::spawn(queue, &more).is_ok());
        Ok(Self { queue, connections, breaker: Mutex::default(), limits, epoch: Instant::now() })
    }

    /// Makes one call, or several that belong together; `what` is a verb with its object.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let limit = self.limits.of(effort);
        let now = self.epoch.elapsed();
        self.breaker().admit(now, limit).map_err(|retry_in| Failure::Resting { retry_in })?;
        let (answer, answered) = oneshot::channel();
        let job = Job::new(move |conn| {
            let result = match conn {
                Ok(conn) => operation(conn).map_err(|error| classify(what, error, conn)),
                Err(source) => Err(Failure::Unavailable { source }),
            };
            // Nobody may wait any more; then nobody needs it.
            Box::new(move || drop(answer.send(result)))
        });
        let ticket = self.queue.push(job).ok_or(Failure::Stopped)?;
        let result = match tokio::time::timeout(limit, answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_dropped)) => Err(Failure::Stopped),
            Err(_elapsed) => {
                self.queue.give_up(&ticket);
                Err(Failure::TimedOut { what, limit })
            }
        };
        self.learn(&result);
        result
    }

    /// Tells the breaker how a call went.
    fn learn<T>(&self, result: &Result<T, Failure>) {
        match result {
            Err(error) if error.is_outage() => {
                self.breaker().failed(self.epoch.elapsed(), jitter());
            }
            Err(Failure::Stopped) => {}
            Ok(_) | Err(_) => self.breaker().succeeded(),
        }
    }

    /// Forgets earlier outages: somebody has seen libvirt alive.
    pub(crate) fn libvirt_is_back(&self) {
        self.breaker().succeeded();
    }

    /// Lets the workers end once what was begun is done; later calls are refused.
    pub(crate) fn stop(&self) {
        self.queue.close();
        self.connections.close_idle();
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A dead connection shows as errors of many kinds: the connection itself knows best.
fn classify(what: &'static str, error: Failure, conn: &Conn) -> Failure {
    match error {
        Failure::Call(source) if source.is_of_the_connection() || !conn.is_alive() => {
            Failure::Unavailable { source }
        }
        Failure::Call(source) => Failure::Failed { what, source },
        other => other,
    }
}

#[cfg(test)]
mod tests;
