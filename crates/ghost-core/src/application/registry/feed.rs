//! Changes of VMs in the order in which they came, for those who watch.
//!
//! Invariant: changes are told under the registry's lock, so their order is that of what readers see; a
//! watcher that is too far behind begins anew with all VMs, and never misses one silently.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast;
use uuid::Uuid;

use crate::domain::{Origin, VmId, VmName, VmView};

/// Changes that a watcher may be behind, connected or not.
const BACKLOG: usize = 1024;

/// One change of one VM.
#[derive(Debug, Clone)]
pub struct VmChange {
    /// Its place in the order, from 1.
    pub number: u64,
    /// What changed.
    pub what: What,
    /// The command that caused it, if one did.
    pub origin: Option<Arc<Origin>>,
}

/// What changed.
#[derive(Debug, Clone)]
pub enum What {
    /// The VM is new, or its status, address or reason changed.
    Changed(Arc<VmView>),
    /// It is gone.
    Deleted(VmId, VmName),
}

/// The changes of one process.
#[derive(Debug)]
pub(super) struct Feed {
    pub(super) epoch: Uuid,
    last: u64,
    recent: VecDeque<VmChange>,
    told: broadcast::Sender<VmChange>,
}

impl Default for Feed {
    fn default() -> Self {
        Self {
            epoch: Uuid::new_v4(),
            last: 0,
            recent: VecDeque::new(),
            told: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Feed {
    pub(super) fn tell(&mut self, what: What, origin: Option<Arc<Origin>>) {
        self.last += 1;
        let change = VmChange { number: self.last, what, origin };
        if self.recent.len() == BACKLOG {
            self.recent.pop_front();
        }
        self.recent.push_back(change.clone());
        // Nobody may watch.
        drop(self.told.send(change));
    }

    pub(super) fn last(&self) -> u64 {
        self.last
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<VmChange> {
        self.told.subscribe()
    }

    /// What came after that number; `None` if that is not known any more.
    pub(super) fn since(&self, number: u64) -> Option<Vec<VmChange>> {
        let first = self.recent.front().map_or(self.last + 1, |change| change.number);
        let known = number <= self.last && number + 1 >= first;
        known.then(|| self.recent.iter().filter(|change| change.number > number).cloned().collect())
    }
}
