//! The queue of events in memory. It survives whoever uses it, as the one on disk survives the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::VmId;
use crate::domain::backlog::{Backlog, Bounds, Content};
use crate::domain::control::VmEvent;
use crate::ports::{EventQueue, LastTold, Memory, NewEvent};

/// A queue that can be given a trouble.
#[derive(Debug)]
pub struct MemoryQueue {
    backlog: Mutex<Backlog>,
    trouble: Mutex<Option<String>>,
}

impl Default for MemoryQueue {
    fn default() -> Self {
        Self::resume(Content::default(), Bounds::default())
    }
}

impl MemoryQueue {
    /// As a new process finds it.
    #[must_use]
    pub fn resume(content: Content, bounds: Bounds) -> Self {
        Self { backlog: Mutex::new(Backlog::resume(content, bounds)), trouble: Mutex::default() }
    }

    /// What a new process would find.
    #[must_use]
    pub fn content(&self) -> Content {
        self.backlog().content().clone()
    }

    /// Changes what [`EventQueue::trouble`] says.
    pub fn has_trouble(&self, trouble: Option<&str>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble.map(str::to_owned);
    }

    fn backlog(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl EventQueue for MemoryQueue {
    async fn push(&self, changes: Vec<NewEvent>) {
        self.backlog().push(changes);
    }

    async fn oldest(&self, most: usize) -> Vec<VmEvent> {
        self.backlog().oldest(most)
    }

    async fn acknowledge(&self, up_to: u64) {
        self.backlog().acknowledge(up_to);
    }

    async fn agree(&self, kept: u64) -> Memory {
        self.backlog().agree(kept)
    }

    async fn told(&self) -> BTreeMap<VmId, LastTold> {
        self.backlog().content().told.clone()
    }

    async fn last(&self) -> u64 {
        self.backlog().content().last
    }

    fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
