//! Threads that call libvirt, and the wait for their end.
//!
//! Invariant: a thread that was joined is gone, its thread-local destructors included. That is more
//! than its last act can tell: libvirt keeps data per thread, and the end of a thread that frees it
//! while the process exits meets the cleanup of the C libraries that libvirt pulls in (OpenSSL's,
//! by way of libssh2), which corrupts the heap. So none may be ending when the process does.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, ThreadId};
use std::time::{Duration, Instant};

/// How long the end of all threads may take; one that hangs is then left behind.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);

/// A group of threads that end together.
#[derive(Debug, Default)]
pub(crate) struct Threads {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct State {
    running: Vec<JoinHandle<()>>,
    /// Those that have nothing left to do but to free what is theirs.
    ended: Vec<ThreadId>,
    joined: bool,
}

impl State {
    fn has_ended(&self, id: ThreadId) -> bool {
        self.ended.contains(&id)
    }

    /// Takes out those that can be joined without a wait.
    fn take_ended(&mut self) -> Vec<JoinHandle<()>> {
        let ended = std::mem::take(&mut self.ended);
        self.running.extract_if(.., |thread| ended.contains(&thread.thread().id())).collect()
    }
}

impl Threads {
    /// Starts a thread.
    ///
    /// # Errors
    /// The system has no thread for us, or the others were joined already.
    pub(crate) fn spawn(
        self: &Arc<Self>,
        name: &str,
        run: impl FnOnce() + Send + 'static,
    ) -> std::io::Result<()> {
        // Held over the start, so that a thread is known here before it can end.
        let mut state = self.state();
        if state.joined {
            return Err(std::io::Error::other("the agent is shutting down"));
        }
        let ended = state.take_ended();
        let group = Arc::clone(self);
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _last_act = LastAct(group);
            run();
        });
        let started = started.map(|thread| state.running.push(thread));
        drop(state);
        ended.into_iter().for_each(join);
        started
    }

    /// Waits for the end of all threads but the calling one, which may be of this group. Those that
    /// do not end before `deadline` are left behind; gives their number. None is started any more.
    pub(crate) fn join_before(&self, deadline: Instant) -> usize {
        let myself = std::thread::current().id();
        let mut state = self.state();
        state.joined = true;
        let busy = |state: &mut State| {
            let mut ids = state.running.iter().map(|thread| thread.thread().id());
            ids.any(|id| id != myself && !state.has_ended(id))
        };
        let left = deadline.saturating_duration_since(Instant::now());
        let waited = self.ended.wait_timeout_while(state, left, busy);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner).0;
        let ended = state.take_ended();
        let behind = std::mem::take(&mut state.running);
        drop(state);
        ended.into_iter().for_each(join);
        behind.iter().filter(|thread| thread.thread().id() != myself).count()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Says that threads are left behind, if some are.
pub(crate) fn warn_of(behind: usize) {
    if behind > 0 {
        tracing::warn!(threads = behind, "libvirt hangs; threads that wait for it are left behind");
    }
}

fn join(thread: JoinHandle<()>) {
    // A panic was reported where it happened.
    drop(thread.join());
}

/// Dropped when a thread has nothing left to do, even by a panic.
struct LastAct(Arc<Threads>);

impl Drop for LastAct {
    fn drop(&mut self) {
        // Once the others were joined there may be nobody to ask for this one, which then hung.
        self.0.state().ended.push(std::thread::current().id());
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::cell::RefCell;
    use std::sync::mpsc::{self, Receiver, Sender};

    use super::*;

    /// A thread's own value, which takes a while to be destroyed, and then says so.
    struct Slow(Sender<()>);

    impl Drop for Slow {
        fn drop(&mut self) {
            let (_nothing_comes, never) = mpsc::channel::<()>();
            let _ = never.recv_timeout(Duration::from_millis(200));
            let _ = self.0.send(());
        }
    }

    thread_local!(static SLOW: RefCell<Option<Slow>> = const { RefCell::new(None) });

    /// Something to do on a thread that will then be slow to end, and what tells when it has.
    pub(crate) fn slow_end() -> (impl Fn() + Send, Receiver<()>) {
        let (destroyed, told) = mpsc::channel();
        (move || SLOW.set(Some(Slow(destroyed.clone()))), told)
    }

    fn soon() -> Instant {
        Instant::now() + PATIENCE
    }

    #[test]
    fn a_joined_thread_has_destroyed_its_thread_local_values() {
        let threads = Arc::new(Threads::default());
        let (slow, told) = slow_end();
        threads.spawn("slow", slow).unwrap();
        assert_eq!(threads.join_before(soon()), 0);
        assert_eq!(told.try_recv(), Ok(()));
    }

    #[test]
    fn a_thread_that_hangs_is_left_behind_at_the_deadline_and_is_not_waited_for_again() {
        let threads = Arc::new(Threads::default());
        let (_release, hang) = mpsc::channel::<()>();
        threads.spawn("hang", move || assert!(hang.recv().is_err())).unwrap();
        threads.spawn("end", || ()).unwrap();
        assert_eq!(threads.join_before(Instant::now() + Duration::from_millis(50)), 1);
        let begun = Instant::now();
        assert_eq!(threads.join_before(soon()), 0);
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn a_thread_does_not_wait_for_itself() {
        let threads = Arc::new(Threads::default());
        let (say, told) = mpsc::channel();
        let own = Arc::clone(&threads);
        threads.spawn("join", move || say.send(own.join_before(soon())).unwrap()).unwrap();
        assert_eq!(told.recv_timeout(PATIENCE / 2), Ok(0));
    }

    #[test]
    fn a_thread_that_panics_is_joined_too() {
        let threads = Arc::new(Threads::default());
        threads.spawn("panic", || panic!("as the test wants")).unwrap();
        let begun = Instant::now();
        assert_eq!(threads.join_before(soon()), 0);
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn none_is_started_once_the_others_were_joined() {
        let threads = Arc::new(Threads::default());
        assert_eq!(threads.join_before(soon()), 0);
        assert!(threads.spawn("late", || ()).is_err());
    }
}
