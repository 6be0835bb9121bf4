//! Blocking calls of libvirt, made on threads of their own.
//!
//! Invariants: the caller has an answer at its deadline, whatever libvirt does; a call that hangs
//! beyond it costs one thread and starves nobody, because a fresh worker takes its place (up to
//! [`MOST_WORKERS`]); a call that nobody waits for any more, be it past its deadline or dropped, is not
//! begun; nobody waits for a connection to a libvirt that is known to be lost; a call that panics is its caller's failure and costs no thread. A call that was begun and
//! given up may still take effect: until it has ended, no other call that changes the same VM is begun,
//! so that nothing is undone before it is done.

mod queue;
mod worker;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ghost_core::domain::VmId;
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use crate::backoff::jitter;
use crate::breaker::{Admission, Breaker, Intent, Refusal};
use crate::connections::Connections;
use crate::failure::Failure;
use crate::observer::{CallObserver, CallOutcome, name_of};
use crate::sys::Conn;
use crate::threads::{self, Threads};
use crate::vitals::{BreakerState, Workers};
use queue::{Changes, Job, Queue, Ticket};

/// Workers while nothing hangs; each has a connection of its own.
const WORKERS: usize = 4;
/// Workers at most, hung ones included.
const MOST_WORKERS: usize = 16;

/// How long a call that hung may take to notice that its domain is gone.
const END_OF_WHAT_WAS_CUT: Duration = Duration::from_secs(2);

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
    threads: Arc<Threads>,
    breaker: Mutex<Breaker>,
    /// Libvirt was lost: who waits for a connection waits in vain.
    lost: Notify,
    limits: Limits,
    observer: Arc<dyn CallObserver>,
    epoch: Instant,
}

impl Executor {
    /// Starts the workers; connections are opened when they are first needed.
    pub(crate) fn start(
        connections: Arc<Connections>,
        limits: Limits,
        observer: Arc<dyn CallObserver>,
    ) -> Result<Self, Failure> {
        let (queue, threads) = <(Arc<Queue>, Arc<Threads>)>::default();
        let (breaker, lost) = (Mutex::default(), Notify::new());
        // Whole before the first worker starts: its drop ends those that did, if a later one can't.
        let epoch = Instant::now();
        let executor = Self { queue, threads, breaker, lost, limits, observer, epoch };
        for _ in 0..WORKERS {
            worker::spawn(&executor.threads, &executor.queue, &connections)
                .map_err(worker::no_thread)?;
        }
        let threads = Arc::clone(&executor.threads);
        let replace = move |queue: &_| worker::spawn(&threads, queue, &connections).is_ok();
        executor.queue.replace_with(replace);
        Ok(executor)
    }

    /// Makes one call that changes nothing, or several that belong together; `what` is a verb with
    /// its object. It may be made to find out whether libvirt is back.
    pub(crate) async fn call<T: Send + 'static>(
        &self,
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.make((Intent::Look, None), what, effort, operation).await
    }

    /// As [`Executor::call`], for what changes this VM. It is refused at once while libvirt is known to
    /// be away, and while an earlier one for the same VM, which was given up, has not ended.
    pub(crate) async fn call_for<T: Send + 'static>(
        &self,
        id: VmId,
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        if let Some(earlier) = self.queue.unfinished(id) {
            return self.refuse(what, Failure::Unfinished { earlier });
        }
        self.make((Intent::Change, Some(Changes { id, what })), what, effort, operation).await
    }

    /// As [`Executor::call_for`], for what ends a call that hangs, because it pulls the domain from under
    /// it: so it is not kept away by one, but fails if that one does not end then.
    pub(crate) async fn cut_for<T: Send + 'static>(
        &self,
        id: VmId,
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let changes = (Intent::Change, Some(Changes { id, what }));
        let done = self.make(changes, what, effort, operation).await?;
        let ended = tokio::time::timeout(END_OF_WHAT_WAS_CUT, self.queue.until_finished(id));
        match (ended.await, self.queue.unfinished(id)) {
            (Err(_elapsed), Some(earlier)) => Err(Failure::Unfinished { earlier }),
            (Ok(()) | Err(_), _) => Ok(done),
        }
    }

    /// As [`Executor::call`], on the way to a change: whoever wants that is not to wait, so it is not made to
    /// find out whether libvirt is back.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        self.make((Intent::Change, None), what, effort, operation).await
    }

    fn admit(
        &self,
        what: &'static str,
        effort: Effort,
        intent: Intent,
    ) -> Result<Admission, Failure> {
        let limit = self.limits.of(effort);
        let admitted = self.breaker().admit(self.epoch.elapsed(), limit, intent);
        admitted.or_else(|refusal| self.refuse(what, refusal.into()))
    }

    fn refuse<T>(&self, what: &'static str, why: Failure) -> Result<T, Failure> {
        let refused = Err(why);
        self.observer.call_ended(name_of(what), CallOutcome::of(&refused), Duration::ZERO);
        refused
    }

    async fn make<T: Send + 'static>(
        &self,
        (intent, changes): (Intent, Option<Changes>),
        what: &'static str,
        effort: Effort,
        operation: impl FnOnce(&Conn) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        // From before it is admitted: no loss goes unheard.
        let lost = self.lost.notified();
        let admission = self.admit(what, effort, intent)?;
        let (limit, begun) = (self.limits.of(effort), Instant::now());
        let (answer, answered) = oneshot::channel();
        let span = span_of(what);
        let job = Job::new(changes, move |conn| {
            let result = match conn {
                Ok(conn) => span.in_scope(|| {
                    caught(what, || operation(conn)).map_err(|error| classify(what, error, conn))
                }),
                Err(source) => Err(Failure::Unavailable { source }),
            };
            // Nobody may wait any more; then nobody needs it.
            Box::new(move || drop(answer.send(result)))
        });
        let Some(ticket) = self.queue.push(job) else { return self.refuse(what, Failure::Stopped) };
        let waiting = Waiting { executor: self, ticket, admission };
        let result = tokio::select! {
            biased;
            answered = tokio::time::timeout(limit, answered) => match answered {
                Ok(Ok(result)) => result,
                Ok(Err(_dropped)) => Err(Failure::Stopped),
                Err(_elapsed) => Err(Failure::TimedOut { what, limit }),
            },
            refusal = self.lost_before_it_began(lost, &waiting.ticket, limit) => Err(refusal.into()),
        };
        self.learn(&result);
        self.observer.call_ended(name_of(what), CallOutcome::of(&result), begun.elapsed());
        result
    }

    /// Waits until libvirt is lost while the call waits for a worker or a connection: then it is not begun any more.
    async fn lost_before_it_began(
        &self,
        first: Notified<'_>,
        ticket: &Ticket,
        limit: Duration,
    ) -> Refusal {
        let mut lost = pin!(first);
        loop {
            lost.as_mut().await;
            lost.set(self.lost.notified());
            let admitted = self.breaker().admit(self.epoch.elapsed(), limit, Intent::Change);
            if let Err(refusal) = admitted
                && self.queue.give_up_unless_begun(ticket)
            {
                return refusal;
            }
        }
    }

    /// Tells the breaker how a call went.
    fn learn<T>(&self, result: &Result<T, Failure>) {
        match result {
            Err(error) if error.is_outage() => {
                self.breaker().failed(self.epoch.elapsed(), jitter());
            }
            // They say nothing of libvirt.
            Err(Failure::Stopped | Failure::Panicked { .. } | Failure::Resting(_)) => {}
            Ok(_) | Err(_) => self.breaker().succeeded(),
        }
    }

    /// Refuses calls at once, also those that wait to be begun, but for a probe now and then: somebody has lost
    /// libvirt.
    pub(crate) fn libvirt_is_lost(&self, reason: &'static str) {
        self.breaker().lost(self.epoch.elapsed(), jitter(), reason);
        self.lost.notify_waiters();
    }

    /// Forgets earlier outages: somebody has seen libvirt alive.
    pub(crate) fn libvirt_is_back(&self) {
        self.breaker().succeeded();
    }

    /// What the breaker lets through.
    pub(crate) fn breaker_state(&self) -> BreakerState {
        self.breaker().state()
    }

    /// What the workers do.
    pub(crate) fn workers(&self) -> Workers {
        self.queue.workers()
    }

    /// Lets the workers end once what was begun is done, and close their connections; later calls are
    /// refused.
    pub(crate) fn stop(&self) {
        self.queue.close();
    }

    /// The workers, to be joined after the stop.
    pub(crate) fn threads(&self) -> Arc<Threads> {
        Arc::clone(&self.threads)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        self.stop();
        threads::warn_of(self.threads.join_before(Instant::now() + threads::PATIENCE));
    }
}

/// A caller that waits, for as long as it does.
struct Waiting<'a> {
    executor: &'a Executor,
    ticket: Ticket,
    admission: Admission,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.executor.queue.give_up(&self.ticket);
        match self.admission {
            // No longer one if it has reported.
            Admission::Probe => {
                self.executor.breaker().forsaken(self.executor.epoch.elapsed(), jitter());
            }
            Admission::Ordinary => {}
        }
    }
}

/// Of the call, within its caller's, so that what is logged on the worker's thread says for whom. Calls that nobody
/// asked for, such as the sampler's, are no trace of their own.
fn span_of(what: &'static str) -> tracing::Span {
    let caller = tracing::Span::current();
    if caller.is_none() {
        return caller;
    }
    tracing::info_span!(parent: &caller, "libvirt", call = name_of(what))
}

/// Makes a panic a failure, so that its caller learns of it and the worker goes on.
fn caught<T>(
    what: &'static str,
    operation: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    // What the operation had is gone with it, and libvirt's objects hold no state of ours.
    catch_unwind(AssertUnwindSafe(operation))
        .unwrap_or_else(|panic| Err(Failure::Panicked { what, panic: text_of(panic.as_ref()) }))
}

fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
        .to_owned()
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
