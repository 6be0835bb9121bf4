//! `<state_dir>/events/log`: the changes of VMs that the control plane has not acknowledged.
//!
//! Invariants: what was pushed is on disk when the push returns, or there is a trouble that says why not; a log cut off at
//! any byte reads as it was after some whole push; a log that is damaged elsewhere is kept aside, and the
//! control plane is told every VM anew. What the disk does not take is held in memory, within the same bounds.

mod line;
mod log;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use ghost_core::domain::backlog::{Backlog, Bounds, Content, Pushed};
use ghost_core::domain::control::VmEvent;
use ghost_core::domain::{AppError, VmId, cause};
use ghost_core::ports::{EventQueue, LastTold, Memory, NewEvent};

use crate::atomic_file;
use crate::disk_error::DiskError;
use crate::ledger_dir::LedgerDir;
use line::Line;
use log::Log;

/// The queue on disk; only who holds the state folder can have one.
#[derive(Debug, Clone)]
pub struct EventDir {
    inner: Arc<Mutex<Inner>>,
    trouble: Arc<Mutex<Option<String>>>,
    /// Pending events, for those who must not wait for the disk.
    waiting: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Inner {
    backlog: Backlog,
    log: Log,
    /// The disk has not what the memory has.
    behind: bool,
}

impl EventDir {
    /// Reads what an earlier process left in the ledger's state folder. It never fails: what can't be read is begun
    /// anew, what can't be written is held in memory, and both are said in the log. Blocks.
    #[must_use]
    pub fn open(ledger: &LedgerDir) -> Self {
        Self::open_in(&ledger.state_dir().join("events"), Bounds::default())
    }

    fn open_in(dir: &Path, bounds: Bounds) -> Self {
        let path = dir.join("log");
        let prepared = prepare(dir);
        let (content, length) = read(&path);
        let log = Log::new(path, length);
        let inner =
            Inner { backlog: Backlog::resume(content, bounds), log, behind: length.is_none() };
        let waiting = Arc::new(AtomicUsize::new(inner.backlog.content().pending.len()));
        let inner = Arc::new(Mutex::new(inner));
        let queue = Self { inner, trouble: Arc::default(), waiting };
        match prepared {
            Ok(()) => queue.settle(&mut lock(&queue.inner)),
            Err(error) => queue.say(error),
        }
        queue
    }

    /// How many events the control plane has not acknowledged. Waits for nothing.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Runs `work` where blocking is allowed, to its end even if the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self, &mut Inner) -> T + Send + 'static,
    ) -> Option<T> {
        let queue = self.clone();
        let work = move || {
            let mut inner = lock(&queue.inner);
            let done = work(&queue, &mut inner);
            queue.waiting.store(inner.backlog.content().pending.len(), Ordering::Relaxed);
            done
        };
        // It fails only when the process is about to end.
        tokio::task::spawn_blocking(work).await.ok()
    }

    /// Brings the disk up to date, if it is not.
    fn settle(&self, inner: &mut Inner) {
        if inner.behind {
            let written = inner.log.rewrite(inner.backlog.content());
            self.note(inner, written);
        }
    }

    fn append(&self, inner: &mut Inner, lines: Vec<Line>, sync: log::Sync) {
        if inner.behind || inner.log.is_long() {
            inner.behind = true;
            return self.settle(inner);
        }
        let written = inner.log.append(&lines, sync);
        self.note(inner, written);
    }

    fn note(&self, inner: &mut Inner, written: Result<(), DiskError>) {
        inner.behind = written.is_err();
        match written {
            Ok(()) => {
                if lock(&self.trouble).take().is_some() {
                    tracing::info!("events for the control plane are written to disk again");
                }
            }
            Err(error) => self.say(error),
        }
    }

    fn say(&self, error: DiskError) {
        let mut trouble = lock(&self.trouble);
        let text = format!("events are held in memory only: {error}");
        if trouble.replace(text).is_none() {
            let error = AppError::from(error);
            tracing::warn!(
                error = cause(&error),
                "events for the control plane are held in memory only; VMs are not affected"
            );
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn prepare(dir: &Path) -> Result<(), DiskError> {
    atomic_file::ensure_dir(dir, 0o700)?;
    atomic_file::remove_leftovers(dir)
}

/// What the file holds, and how much of it is whole; no length if it has to be written anew.
fn read(path: &Path) -> (Content, Option<u64>) {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return (Content::default(), None);
        }
        Err(error) => {
            let error = AppError::from(DiskError::on("read", path)(error));
            tracing::warn!(
                path = %path.display(), error = cause(&error),
                "the events for the control plane can't be read; it is told every VM anew"
            );
            return (Content::default(), None);
        }
    };
    match line::read(&bytes) {
        line::Read::Whole { content, length } => (content, Some(length)),
        line::Read::Damaged { content } => {
            let kept_as: Option<PathBuf> = atomic_file::set_aside(path).ok();
            tracing::warn!(
                path = %path.display(), kept_as = ?kept_as,
                "the events for the control plane are damaged; what can be read is used, and it is told every VM anew"
            );
            (content, None)
        }
    }
}

#[async_trait]
impl EventQueue for EventDir {
    async fn push(&self, changes: Vec<NewEvent>) {
        self.run(move |queue, inner| match inner.backlog.push(changes) {
            Pushed::Appended(events) => {
                let lines = events.into_iter().map(Line::Event).collect();
                queue.append(inner, lines, log::Sync::Yes);
            }
            Pushed::Squeezed { superseded, lost } => {
                tracing::info!(superseded, "the control plane is away for long: only the last change of each VM is kept");
                if lost > 0 {
                    tracing::warn!(lost, "too many VMs have come and gone while the control plane was away: it will not hear of the oldest");
                }
                inner.behind = true;
                queue.settle(inner);
            }
        })
        .await;
    }

    async fn oldest(&self, most: usize) -> Vec<VmEvent> {
        let oldest = self.run(move |queue, inner| {
            queue.settle(inner);
            inner.backlog.oldest(most)
        });
        oldest.await.unwrap_or_default()
    }

    async fn acknowledge(&self, up_to: u64) {
        self.run(move |queue, inner| {
            if inner.backlog.acknowledge(up_to) {
                let up_to = inner.backlog.content().acknowledged;
                // One that is lost costs a repetition.
                queue.append(inner, vec![Line::Acknowledged(up_to)], log::Sync::No);
            }
        })
        .await;
    }

    async fn agree(&self, kept: u64) -> Memory {
        let agreed = self.run(move |queue, inner| {
            let before = inner.backlog.content().clone();
            let memory = inner.backlog.agree(kept);
            inner.behind |= before != *inner.backlog.content();
            queue.settle(inner);
            memory
        });
        agreed.await.unwrap_or(Memory::Kept)
    }

    async fn told(&self) -> BTreeMap<VmId, LastTold> {
        self.run(|_, inner| inner.backlog.content().told.clone()).await.unwrap_or_default()
    }

    async fn last(&self) -> u64 {
        self.run(|_, inner| inner.backlog.content().last).await.unwrap_or_default()
    }

    fn trouble(&self) -> Option<String> {
        lock(&self.trouble).clone()
    }
}

#[cfg(test)]
mod tests;
