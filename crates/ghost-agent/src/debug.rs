//! The agent's part of a debug bundle: what belongs into a bug report.
//!
//! Invariants: whatever leaves went through the scrubber; every part has a deadline of its own, and what it lacks is a line of
//! `agent/errors.txt`, never the end of the bundle; one bundle at a time, and a look that still hangs is not begun again.

pub mod certificates;
mod collect;
mod folders;
pub mod host;
pub mod process;
pub mod vms;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt as _};
use ghost_core::domain::{AppError, ErrorKind};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use collect::Collection;
pub use folders::{disks, state_folder};

/// How long one part may take: longer than libvirt's own facts.
const PART_LIMIT: Duration = Duration::from_secs(6);

/// One file of the bundle, not yet scrubbed.
#[derive(Clone, PartialEq, Eq)]
pub struct Sheet {
    /// Its name inside the bundle, such as `host/meminfo.txt`.
    pub name: String,
    /// Its text.
    pub text: String,
    /// What of it stays if it is too large.
    pub kept: Kept,
}

impl std::fmt::Debug for Sheet {
    /// Without the text, which may hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sheet").field("name", &self.name).finish_non_exhaustive()
    }
}

/// What of a file that is too large is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Of most files.
    Beginning,
    /// Of logs.
    End,
}

impl Sheet {
    /// Of which the beginning is kept.
    #[must_use]
    pub fn new(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { name: name.into(), text: text.into(), kept: Kept::Beginning }
    }

    /// Of which the end is kept.
    #[must_use]
    pub fn log(name: impl Into<String>, text: impl Into<String>) -> Self {
        Self { kept: Kept::End, ..Self::new(name, text) }
    }
}

/// What a part gives, or why it can't, in one line.
pub type Sheets = Result<Vec<Sheet>, String>;

/// Collects files of one kind.
pub struct Part {
    name: &'static str,
    work: Work,
}

enum Work {
    /// Blocks a thread; given how many lines of the log are wanted.
    Blocking(Arc<dyn Fn(usize) -> Sheets + Send + Sync>),
    /// Waits for others.
    Asking(Box<dyn Fn() -> BoxFuture<'static, Sheets> + Send + Sync>),
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Part").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Part {
    /// That reads files or memory.
    #[must_use]
    pub fn reading(name: &'static str, read: impl Fn() -> Sheets + Send + Sync + 'static) -> Self {
        Self { name, work: Work::Blocking(Arc::new(move |_| read())) }
    }

    /// That reads the log's last lines, at most as many as it is told.
    #[must_use]
    pub fn log(read: impl Fn(usize) -> Sheets + Send + Sync + 'static) -> Self {
        Self { name: "the log", work: Work::Blocking(Arc::new(read)) }
    }

    /// That asks somebody; dropped at its deadline.
    #[must_use]
    pub fn asking(
        name: &'static str,
        ask: impl Fn() -> BoxFuture<'static, Sheets> + Send + Sync + 'static,
    ) -> Self {
        Self { name, work: Work::Asking(Box::new(ask)) }
    }
}

/// The secrets that are known now, which may be anywhere.
pub type Secrets = Arc<dyn Fn() -> Vec<String> + Send + Sync>;

/// Collects bundles.
pub struct Collector {
    parts: Vec<Part>,
    secrets: Secrets,
    /// One bundle at a time: each is held in memory.
    turn: Arc<Semaphore>,
    hanging: Arc<Hanging>,
    closing: CancellationToken,
    /// What tells bundles, whether anybody reads or not.
    tasks: TaskTracker,
    limit: Duration,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("parts", &self.parts).finish_non_exhaustive()
    }
}

impl Collector {
    /// Of these parts; ends what it tells at `closing`.
    #[must_use]
    pub fn new(parts: Vec<Part>, secrets: Secrets, closing: CancellationToken) -> Self {
        let (turn, hanging) = (Arc::new(Semaphore::new(1)), Arc::default());
        let tasks = TaskTracker::new();
        Self { parts, secrets, turn, hanging, closing, tasks, limit: PART_LIMIT }
    }

    /// Begins a bundle, with at most so many lines of the log.
    ///
    /// # Errors
    /// `CONFLICT` while another is collected.
    pub fn collect(&self, log_lines: usize) -> Result<Collection, AppError> {
        let turn = Arc::clone(&self.turn).try_acquire_owned().map_err(|_| {
            AppError::new(ErrorKind::Busy, "another debug bundle is being collected")
                .remedy("try again when that is done, in two minutes at the latest")
        })?;
        let parts = self.parts.iter().map(|part| self.bounded(part, log_lines)).collect();
        let (secrets, closing) = (Arc::clone(&self.secrets), self.closing.clone());
        Ok(Collection::new(parts, secrets, turn, closing, self.tasks.clone()))
    }

    /// The part's work, which ends at its deadline.
    fn bounded(&self, part: &Part, log_lines: usize) -> BoxFuture<'static, (&'static str, Sheets)> {
        let (name, limit) = (part.name, self.limit);
        let work = match &part.work {
            Work::Asking(ask) => ask(),
            Work::Blocking(read) => self.on_a_thread(name, Arc::clone(read), log_lines),
        };
        async move {
            let late = |_| Err(format!("did not answer within {} s", limit.as_secs_f32()));
            (name, tokio::time::timeout(limit, work).await.unwrap_or_else(late))
        }
        .boxed()
    }

    fn on_a_thread(
        &self,
        name: &'static str,
        read: Arc<dyn Fn(usize) -> Sheets + Send + Sync>,
        log_lines: usize,
    ) -> BoxFuture<'static, Sheets> {
        let Some(under_way) = Hanging::begin(&self.hanging, name) else {
            return async { Err("still hangs since an earlier bundle".to_owned()) }.boxed();
        };
        let read = move || {
            let _until_it_ends = under_way;
            read(log_lines)
        };
        let read = tokio::task::spawn_blocking(read);
        async move { read.await.unwrap_or_else(|died| Err(format!("failed: {died}"))) }.boxed()
    }
}

/// Which looks have not ended.
#[derive(Debug, Default)]
struct Hanging(Mutex<BTreeSet<&'static str>>);

impl Hanging {
    fn begin(hanging: &Arc<Self>, name: &'static str) -> Option<UnderWay> {
        hanging.names().insert(name).then(|| UnderWay { of: Arc::clone(hanging), name })
    }

    fn names(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A look, until it is dropped.
#[derive(Debug)]
struct UnderWay {
    of: Arc<Hanging>,
    name: &'static str,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.of.names().remove(self.name);
    }
}
