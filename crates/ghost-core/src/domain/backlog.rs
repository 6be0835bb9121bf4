//! The changes that the control plane has not acknowledged, as a value: what a queue in memory and one on disk both
//! are.
//!
//! Invariants: numbers only grow, and what is pending is in their order; the newest change of a VM is never given
//! up for one of another VM's older changes; there are never more than [`Bounds`] allow.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::control::{ToldStatus, VmEvent, VmState};
use super::identity::{VmId, VmName};
use super::origin::Origin;

/// A change that has no number yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEvent {
    /// When it was seen.
    pub at: Timestamp,
    /// The VM.
    pub vm: VmId,
    /// How it is since.
    pub state: VmState,
    /// The command that caused it, if one did.
    pub origin: Option<Origin>,
}

/// What was last told of a VM that is not gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastTold {
    /// Its name then.
    pub name: VmName,
    /// Its state then; `None` if that is not certain, so that it has to be told anew.
    pub state: Option<VmState>,
}

/// Whether the control plane keeps what it was told before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// It does.
    Kept,
    /// It knows less than it once acknowledged: the state of every VM has to be told anew.
    Lost,
}

/// How much may be pending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Changes.
    pub events: usize,
    /// Their approximate size in bytes.
    pub bytes: usize,
}

impl Default for Bounds {
    /// 10,000 changes or 4 MiB, which is days of a busy host.
    fn default() -> Self {
        Self { events: 10_000, bytes: 4 << 20 }
    }
}

/// How a push went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// These were appended.
    Appended(Vec<VmEvent>),
    /// These were, and others gave way.
    Squeezed {
        /// Older changes of VMs, of which a newer one is pending.
        superseded: usize,
        /// Changes that were the last of their VM: the control plane will not hear of them.
        lost: usize,
    },
}

/// What a backlog holds, apart from what is pending; and that.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Content {
    /// The number given last; 0 for none.
    pub last: u64,
    /// All up to that one were acknowledged.
    pub acknowledged: u64,
    /// What was last told of each VM that is not gone.
    pub told: BTreeMap<VmId, LastTold>,
    /// By number.
    pub pending: BTreeMap<u64, VmEvent>,
}

impl Content {
    /// Takes in a change that has its number.
    pub fn append(&mut self, event: VmEvent) {
        self.last = self.last.max(event.sequence);
        match event.state.status {
            ToldStatus::Is(_) => {
                let (name, state) = (event.state.name.clone(), Some(event.state.clone()));
                self.told.insert(event.vm, LastTold { name, state });
            }
            ToldStatus::Deleted => drop(self.told.remove(&event.vm)),
        }
        self.pending.insert(event.sequence, event);
    }

    /// Removes all up to that number.
    pub fn acknowledge(&mut self, up_to: u64) {
        self.acknowledged = self.acknowledged.max(up_to);
        self.pending = self.pending.split_off(&up_to.saturating_add(1));
    }

    /// Makes nothing certain that was told.
    pub fn doubt(&mut self) {
        self.told.values_mut().for_each(|last| last.state = None);
    }
}

/// The backlog of one process.
#[derive(Debug, Clone)]
pub struct Backlog {
    content: Content,
    bytes: usize,
    bounds: Bounds,
    /// The last number that earlier processes gave, until the control plane was heard of.
    inherited: Option<u64>,
}

impl Backlog {
    /// Goes on where an earlier process ended.
    #[must_use]
    pub fn resume(content: Content, bounds: Bounds) -> Self {
        let bytes = content.pending.values().map(weight).sum();
        let inherited = Some(content.last);
        Self { content, bytes, bounds, inherited }
    }

    /// All of it.
    #[must_use]
    pub const fn content(&self) -> &Content {
        &self.content
    }

    /// The oldest that are pending, ascending, at most so many.
    #[must_use]
    pub fn oldest(&self, most: usize) -> Vec<VmEvent> {
        self.content.pending.values().take(most).cloned().collect()
    }

    /// Numbers the changes and appends them; where they do not fit, older ones give way.
    pub fn push(&mut self, changes: Vec<NewEvent>) -> Pushed {
        let mut appended = Vec::with_capacity(changes.len());
        let (mut superseded, mut lost) = (0, 0);
        for NewEvent { at, vm, state, origin } in changes {
            let event = VmEvent { sequence: self.content.last + 1, at, vm, state, origin };
            self.bytes += weight(&event);
            appended.push(event.clone());
            self.content.append(event);
            if self.too_much(self.bounds) {
                superseded += self.coalesce();
                lost += self.drop_oldest();
            }
        }
        match superseded + lost {
            0 => Pushed::Appended(appended),
            _ => Pushed::Squeezed { superseded, lost },
        }
    }

    /// Removes all up to that number. True if that is news.
    pub fn acknowledge(&mut self, up_to: u64) -> bool {
        // A number that was never given is none of ours.
        let up_to = up_to.min(self.content.last);
        if up_to <= self.content.acknowledged {
            return false;
        }
        self.content.acknowledge(up_to);
        self.weigh();
        true
    }

    /// Agrees on numbers with a control plane whose last event of this agent is `kept`.
    pub fn agree(&mut self, kept: u64) -> Memory {
        let inherited = self.inherited.take();
        let content = &mut self.content;
        if kept < content.acknowledged {
            content.acknowledged = kept;
            content.doubt();
            return Memory::Lost;
        }
        if kept > inherited.unwrap_or(content.last) {
            // Numbers were given twice: here, and by an earlier process whose last writes were lost. What
            // this process gave is new to the control plane.
            let given_twice = inherited.unwrap_or(content.acknowledged);
            let again = content.pending.split_off(&(given_twice + 1));
            content.pending.clear();
            content.last = kept;
            for (_, mut event) in again {
                content.last += 1;
                event.sequence = content.last;
                content.pending.insert(event.sequence, event);
            }
        }
        content.acknowledge(kept);
        self.weigh();
        Memory::Kept
    }

    fn too_much(&self, bounds: Bounds) -> bool {
        self.content.pending.len() > bounds.events || self.bytes > bounds.bytes
    }

    /// Keeps the newest of each VM only; how many gave way.
    fn coalesce(&mut self) -> usize {
        let before = self.content.pending.len();
        let mut newer = BTreeSet::new();
        let superseded: Vec<u64> = self
            .content
            .pending
            .values()
            .rev()
            .filter(|event| !newer.insert(event.vm))
            .map(|event| event.sequence)
            .collect();
        superseded.iter().for_each(|sequence| drop(self.content.pending.remove(sequence)));
        self.weigh();
        before - self.content.pending.len()
    }

    /// So many VMs have come and gone that even the last change of each does not fit: makes some room, so that not
    /// every further push has to.
    fn drop_oldest(&mut self) -> usize {
        let before = self.content.pending.len();
        if self.too_much(self.bounds) {
            let Bounds { events, bytes } = self.bounds;
            let roomy = Bounds { events: events - events / 16, bytes: bytes - bytes / 16 };
            while self.too_much(roomy) {
                let Some((_, gone)) = self.content.pending.pop_first() else { break };
                self.bytes -= weight(&gone);
                // Of a VM that is still there the state is told anew at the next start.
                if let Some(last) = self.content.told.get_mut(&gone.vm) {
                    last.state = None;
                }
            }
        }
        before - self.content.pending.len()
    }

    fn weigh(&mut self) {
        self.bytes = self.content.pending.values().map(weight).sum();
    }
}

/// About the size of an event as text.
fn weight(event: &VmEvent) -> usize {
    let VmState { name, reason, .. } = &event.state;
    let origin = event.origin.as_ref().map_or(0, |origin| 100 + origin.request_id.as_str().len());
    200 + name.as_str().len() + reason.as_ref().map_or(0, String::len) + origin
}

#[cfg(test)]
mod tests;
