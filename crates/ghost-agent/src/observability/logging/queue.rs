//! From those who log to what is written. Invariant: whoever logs never waits for a disk, a pipe or the journal: what has no
//! room is dropped and counted.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes that wait to be written.
const WAITING_BYTES: usize = 1 << 20;
/// What an emptied buffer may keep of its memory.
const KEPT_BYTES: usize = 64 << 10;

/// Lines one after another.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    /// Where each line ends.
    ends: Vec<usize>,
}

impl Batch {
    pub(super) fn push(&mut self, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| &self.bytes[begin..*end])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn len(&self) -> u64 {
        u64::try_from(self.ends.len()).unwrap_or(u64::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        self.bytes.shrink_to(KEPT_BYTES);
        self.ends.shrink_to(KEPT_BYTES / 64);
    }
}

/// What is done with lines; lives on a thread of its own.
pub(super) trait Sink: Send {
    /// Writes what it can of `batch`, in order, and says how many lines it lost.
    fn write(&mut self, batch: &Batch) -> u64;

    /// Says that `lost` lines were lost, and whether that was written.
    fn tell_lost(&mut self, lost: u64) -> Told;

    /// Begins anew with what it writes to.
    fn reopen(&mut self) {}

    /// Looks after itself; called about once a minute.
    fn look_after(&mut self) {}
}

/// Whether something was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Yes,
    NotNow,
}

#[derive(Debug, Default)]
struct State {
    batch: Batch,
    /// Lines for which there was no room behind `batch`.
    overflowed: u64,
    /// All lines that were lost.
    dropped: u64,
    reopen: bool,
    closed: bool,
    /// The writer has lines in its hands.
    writing: bool,
}

/// Lines on their way to one sink.
#[derive(Debug, Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    written: Condvar,
}

/// How often a sink looks after itself, and how often it tries again while it owes a word about lost lines.
const EVERY: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(1);

impl Queue {
    /// A queue, and the thread that hands its lines to `sink` until [`Self::close`].
    pub(super) fn start(name: &str, sink: impl Sink + 'static) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Self::default());
        let mine = Arc::clone(&queue);
        std::thread::Builder::new().name(name.to_owned()).spawn(move || mine.work(sink))?;
        Ok(queue)
    }

    /// Never waits for the sink.
    pub(super) fn push(&self, line: &[u8]) {
        let mut state = self.state();
        if state.batch.bytes.len() + line.len() > WAITING_BYTES {
            state.overflowed += 1;
            state.dropped += 1;
            return;
        }
        let first = state.batch.is_empty();
        state.batch.push(line);
        drop(state);
        if first {
            self.filled.notify_one();
        }
    }

    pub(super) fn reopen(&self) {
        self.state().reopen = true;
        self.filled.notify_one();
    }

    /// Lines that were lost since the start.
    pub(super) fn dropped(&self) -> u64 {
        self.state().dropped
    }

    /// Waits until all is written, at most for `limit`.
    pub(super) fn flush(&self, limit: Duration) {
        let busy = |state: &mut State| state.writing || state.reopen || !state.batch.is_empty();
        let flushed = self.written.wait_timeout_while(self.state(), limit, busy);
        drop(flushed);
    }

    pub(super) fn close(&self) {
        self.state().closed = true;
        self.filled.notify_one();
    }

    fn work(&self, mut sink: impl Sink) {
        let (mut batch, mut owed) = (Batch::default(), 0);
        let mut looked = Instant::now();
        loop {
            let wait = if owed == 0 { EVERY } else { AGAIN };
            let idle = |state: &mut State| {
                state.batch.is_empty() && state.overflowed == 0 && !state.reopen && !state.closed
            };
            let waited = self.filled.wait_timeout_while(self.state(), wait, idle);
            let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.closed && state.batch.is_empty() {
                return;
            }
            std::mem::swap(&mut state.batch, &mut batch);
            let overflowed = std::mem::take(&mut state.overflowed);
            let reopen = std::mem::take(&mut state.reopen);
            state.writing = true;
            drop(state);
            if reopen {
                sink.reopen();
            }
            if looked.elapsed() >= EVERY {
                sink.look_after();
                looked = Instant::now();
            }
            owed = told(&mut sink, owed);
            let lost = if batch.is_empty() { 0 } else { sink.write(&batch) };
            batch.clear();
            owed += lost + overflowed;
            if lost == 0 {
                owed = told(&mut sink, owed);
            }
            let mut state = self.state();
            state.dropped += lost;
            state.writing = false;
            drop(state);
            self.written.notify_all();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells the loss of `owed` lines; gives how many are still to be told.
fn told(sink: &mut impl Sink, owed: u64) -> u64 {
    match owed {
        0 => 0,
        lost => match sink.tell_lost(lost) {
            Told::Yes => 0,
            Told::NotNow => lost,
        },
    }
}
