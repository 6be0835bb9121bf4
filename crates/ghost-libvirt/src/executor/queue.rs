//! The queue between callers and workers. All of its state is under one lock, never held while
//! libvirt is called.
//!
//! A job's phases: `Queued ─▶ Running ─▶ Done`; a caller that gives up turns `Queued` into
//! `Forsaken` (never begun), and `Running` into `Replaced` if another worker took the place of the
//! one that hangs, which then ends as soon as it can.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use super::MOST_WORKERS;
use crate::connections::Connections;
use crate::sys::{Conn, LibvirtError};

const QUEUED: u8 = 0;
const RUNNING: u8 = 1;
const DONE: u8 = 2;
const FORSAKEN: u8 = 3;
const REPLACED: u8 = 4;

/// Makes the call and gives what tells the caller, to be called when the connection is free again.
type Run = Box<dyn FnOnce(Result<&Conn, LibvirtError>) -> Answer + Send>;
pub(super) type Answer = Box<dyn FnOnce()>;
type Replace = Box<dyn Fn(&Arc<Queue>) -> bool + Send + Sync>;

/// One call to be made.
pub(super) struct Job {
    run: Run,
    ticket: Ticket,
}

/// The caller's hold on a job.
#[derive(Debug, Clone, Default)]
pub(super) struct Ticket(Arc<AtomicU8>);

/// Whether the worker that made a call still has a place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    Kept,
    Taken,
}

impl Job {
    pub(super) fn new(
        run: impl FnOnce(Result<&Conn, LibvirtError>) -> Answer + Send + 'static,
    ) -> Self {
        Self { run: Box::new(run), ticket: Ticket::default() }
    }

    /// Makes the call, if somebody still waits for it.
    pub(super) fn run(self, connections: &Connections) -> Place {
        if !self.ticket.step(QUEUED, RUNNING) {
            return Place::Kept;
        }
        let answer = match connections.take() {
            Ok(conn) => {
                let answer = (self.run)(Ok(&conn));
                connections.give_back(conn);
                answer
            }
            Err(error) => (self.run)(Err(error)),
        };
        let place = if self.ticket.step(RUNNING, DONE) { Place::Kept } else { Place::Taken };
        answer();
        place
    }
}

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Waiting jobs, and the number of workers.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    replace: OnceLock<Replace>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    workers: usize,
    closed: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let state = self.state();
        f.debug_struct("Queue")
            .field("waiting", &state.jobs.len())
            .field("workers", &state.workers)
            .finish()
    }
}

impl Queue {
    /// Says how a worker is started in place of one that hangs.
    pub(super) fn replace_with(
        &self,
        replace: impl Fn(&Arc<Self>) -> bool + Send + Sync + 'static,
    ) {
        // Said once, by the executor's start.
        let _ = self.replace.set(Box::new(replace));
    }

    /// Adds a job; `None` if the queue is closed.
    pub(super) fn push(&self, job: Job) -> Option<Ticket> {
        let ticket = job.ticket.clone();
        let mut state = self.state();
        if state.closed {
            return None;
        }
        state.jobs.push_back(job);
        self.changed.notify_one();
        Some(ticket)
    }

    /// Waits for the next job; `None` when the queue is closed.
    pub(super) fn next(&self) -> Option<Job> {
        let state = self.state();
        let mut state = self
            .changed
            .wait_while(state, |state| state.jobs.is_empty() && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        state.jobs.pop_front()
    }

    /// The caller's deadline has passed.
    pub(super) fn give_up(self: &Arc<Self>, ticket: &Ticket) {
        if ticket.step(QUEUED, FORSAKEN) || self.state().workers >= MOST_WORKERS {
            return;
        }
        if ticket.step(RUNNING, REPLACED)
            && !self.replace.get().is_some_and(|replace| replace(self))
        {
            tracing::error!(
                "a call of libvirt hangs, and no thread is to be had in place of its own"
            );
        }
    }

    /// Refuses new jobs and drops those that wait: their callers are told that the agent stops.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        state.jobs.clear();
        self.changed.notify_all();
    }

    /// Counts a worker in.
    pub(super) fn enter(&self) {
        self.state().workers += 1;
    }

    /// Counts a worker out.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.workers = state.workers.saturating_sub(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
