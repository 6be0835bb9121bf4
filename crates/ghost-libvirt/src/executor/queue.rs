//! The queue between callers and workers. All of its state is under one lock, never held while
//! libvirt is called.
//!
//! A job's phases: `Queued ─▶ Connecting ─▶ Running ─▶ Done`; a caller that gives up turns `Queued` into
//! `Forsaken`, `Connecting` into `Stuck` (neither is ever begun), and `Running` into `Hung`: then another worker takes
//! the place of the one that hangs. A job that changes a VM is remembered while it hangs.
//!
//! Invariant: a job that was begun and given up is `Hung` until it ends; [`WORKERS`] workers do not hang, or less while there is no room for more; a worker that
//! comes back from a call that hung ends if its place was taken, and keeps it if not.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};

use ghost_core::domain::VmId;

use tokio::sync::Notify;

use super::{MOST_WORKERS, WORKERS};
use crate::connections::Connections;
use crate::sys::{Conn, LibvirtError};
use crate::vitals::Workers;

const QUEUED: u8 = 0;
const CONNECTING: u8 = 1;
const RUNNING: u8 = 2;
const DONE: u8 = 3;
const FORSAKEN: u8 = 4;
const STUCK: u8 = 5;
const HUNG: u8 = 6;

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
pub(super) struct Ticket {
    phase: Arc<AtomicU8>,
    changes: Option<Changes>,
}

/// Which VM a job changes, and how: a verb with its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) id: VmId,
    pub(super) what: &'static str,
}

impl Job {
    pub(super) fn new(
        changes: Option<Changes>,
        run: impl FnOnce(Result<&Conn, LibvirtError>) -> Answer + Send + 'static,
    ) -> Self {
        Self { run: Box::new(run), ticket: Ticket { phase: Arc::default(), changes } }
    }

    /// Makes the call, if somebody still waits for it.
    pub(super) fn run(self, connections: &Connections, queue: &Queue) {
        if !self.ticket.step(QUEUED, CONNECTING) {
            return;
        }
        // A libvirtd that hangs lets nobody in, and there is no keepalive yet that would end the wait.
        let conn = connections.take();
        if !self.ticket.step(CONNECTING, RUNNING) {
            conn.into_iter().for_each(|conn| connections.give_back(conn));
            return queue.done(&self.ticket);
        }
        let answer = match conn {
            Ok(conn) => {
                let answer = (self.run)(Ok(&conn));
                connections.give_back(conn);
                answer
            }
            Err(error) => (self.run)(Err(error)),
        };
        queue.done(&self.ticket);
        answer();
    }
}

impl Ticket {
    fn step(&self, from: u8, to: u8) -> bool {
        self.phase.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// Waiting jobs, and the number of workers.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    changed: Condvar,
    /// A call that was given up has ended.
    ended: Notify,
    replace: OnceLock<Replace>,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    workers: usize,
    /// Of the workers, those whose callers gave up.
    hung: usize,
    /// Of the workers, those that wait for a job.
    idle: usize,
    /// What they still do to VMs, maybe.
    unfinished: Vec<Changes>,
    closed: bool,
}

impl State {
    /// Workers that do not hang.
    fn at_work(&self) -> usize {
        self.workers.saturating_sub(self.hung)
    }

    /// Gives up a call that was not begun; whether it was not.
    fn forsake(&mut self, ticket: &Ticket) -> bool {
        if ticket.step(QUEUED, FORSAKEN) {
            return true;
        }
        let stuck = ticket.step(CONNECTING, STUCK);
        self.hung += usize::from(stuck);
        stuck
    }

    /// Gives up a call that was begun; whether it has not ended.
    fn hang(&mut self, ticket: &Ticket) -> bool {
        let hangs = ticket.step(RUNNING, HUNG);
        if hangs {
            self.hung += 1;
            self.unfinished.extend(ticket.changes);
        }
        hangs
    }
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

    /// Waits for a worker's next job. `None` when the queue is closed, or another has the worker's
    /// place: the worker is counted out, and has to end.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.state();
        if state.at_work() <= WORKERS {
            let idle = |state: &mut State| state.jobs.is_empty() && !state.closed;
            state.idle += 1;
            let waited = self.changed.wait_while(state, idle);
            state = waited.unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
        }
        state.workers = state.workers.saturating_sub(1);
        None
    }

    /// A call has ended, however late.
    fn done(&self, ticket: &Ticket) {
        let mut state = self.state();
        if ticket.step(STUCK, DONE) {
            state.hung = state.hung.saturating_sub(1);
        } else if !ticket.step(RUNNING, DONE) && ticket.step(HUNG, DONE) {
            state.hung = state.hung.saturating_sub(1);
            let ended = state.unfinished.iter().position(|one| Some(*one) == ticket.changes);
            ended.map(|ended| state.unfinished.swap_remove(ended));
            self.ended.notify_waiters();
        }
    }

    /// What a job that was begun and given up may still do to this VM.
    pub(super) fn unfinished(&self, id: VmId) -> Option<&'static str> {
        self.state().unfinished.iter().find(|one| one.id == id).map(|one| one.what)
    }

    /// Returns once nothing is unfinished for this VM.
    pub(super) async fn until_finished(&self, id: VmId) {
        loop {
            let ended = self.ended.notified();
            if self.unfinished(id).is_none() {
                return;
            }
            ended.await;
        }
    }

    /// The caller waits no more, because its deadline has passed or it was dropped. Means nothing
    /// once the call has ended.
    pub(super) fn give_up(self: &Arc<Self>, ticket: &Ticket) {
        let mut state = self.state();
        // In the order of a job's life, which goes on meanwhile: none may slip through.
        if state.forsake(ticket) || state.hang(ticket) {
            self.fill_up(state);
        }
    }

    /// The caller waits no more if the call was not begun, which then it never is; says whether it was not.
    pub(super) fn give_up_unless_begun(self: &Arc<Self>, ticket: &Ticket) -> bool {
        let mut state = self.state();
        let forsaken = state.forsake(ticket);
        if forsaken {
            self.fill_up(state);
        }
        forsaken
    }

    /// Starts a worker if there are too few.
    fn fill_up(self: &Arc<Self>, state: MutexGuard<'_, State>) {
        let lacks = !state.closed && state.at_work() < WORKERS && state.workers < MOST_WORKERS;
        drop(state);
        // A failure is made good by the next call that is given up, or by the worker if it comes back.
        if lacks && !self.replace.get().is_some_and(|replace| replace(self)) {
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

    /// What the workers do.
    pub(super) fn workers(&self) -> Workers {
        let state = self.state();
        let State { idle, hung, .. } = *state;
        Workers { idle, busy: state.at_work().saturating_sub(idle), hung }
    }

    /// Whether it was closed.
    pub(super) fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Counts a worker in.
    pub(super) fn enter(&self) {
        self.state().workers += 1;
    }

    /// Counts a worker out that could not be started.
    pub(super) fn leave(&self) {
        let mut state = self.state();
        state.workers = state.workers.saturating_sub(1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
