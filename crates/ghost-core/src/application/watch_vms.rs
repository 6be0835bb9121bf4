//! WatchVMs: all VMs as they are, then every change in order. Invariant: between two events nothing is
//! missing; a client that was away too long is told everything anew.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use uuid::Uuid;

use super::registry::feed::{VmChange, What};
use super::registry::{Registry, Since};
use crate::domain::validation::Violations;
use crate::domain::{AppError, Origin, VmId, VmName, VmView};

/// What a watcher is told.
#[derive(Debug, Clone)]
pub enum WatchEvent {
    /// A VM as it is.
    State(Arc<VmView>),
    /// All VMs were told.
    Synced,
    /// A VM is new, or its status, address or reason changed; by that command, if one caused it.
    Changed(Arc<VmView>, Option<Arc<Origin>>),
    /// It is gone.
    Deleted(VmId, VmName, Option<Arc<Origin>>),
}

/// The use case.
#[derive(Debug)]
pub struct WatchVms {
    registry: Arc<Registry>,
    agent: Uuid,
}

/// One who watches.
#[derive(Debug)]
pub struct Watching {
    registry: Arc<Registry>,
    agent: Uuid,
    told: VecDeque<(u64, WatchEvent)>,
    changes: Receiver<VmChange>,
    last: u64,
}

impl WatchVms {
    /// Over this registry, of this agent.
    #[must_use]
    pub fn new(registry: Arc<Registry>, agent: Uuid) -> Self {
        Self { registry, agent }
    }

    /// Begins behind the event that gave `token`, or with all VMs if it is empty or too old.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` if no event of this agent gave it.
    pub fn run(&self, token: &str) -> Result<Watching, AppError> {
        let from = if token.is_empty() { None } else { Some(self.read(token)?) };
        Ok(Watching::begin(Arc::clone(&self.registry), self.agent, from))
    }

    fn read(&self, token: &str) -> Result<(Uuid, u64), AppError> {
        let mut wrong = Violations::default();
        let parts: Vec<&str> = token.split(':').collect();
        let parsed = match parts.as_slice() {
            [agent, epoch, number] => agent
                .parse()
                .ok()
                .zip(epoch.parse().ok())
                .zip(number.parse().ok())
                .map(|((agent, epoch), number): ((Uuid, Uuid), u64)| (agent, epoch, number)),
            _ => None,
        };
        let read = match parsed {
            Some((agent, epoch, number)) if agent == self.agent => Some((epoch, number)),
            Some((agent, _, _)) => {
                wrong.add("resume_token", format!("is of agent {agent}; this is {}", self.agent));
                None
            }
            None => {
                wrong.add(
                    "resume_token",
                    "is not one that an event of WatchVMs gave; leave it empty to begin anew",
                );
                None
            }
        };
        wrong.finish(read)
    }
}

impl Watching {
    fn begin(registry: Arc<Registry>, agent: Uuid, from: Option<(Uuid, u64)>) -> Self {
        let (last, since, changes) = registry.changes(from);
        let told = match since {
            Since::Known(changes) => changes.into_iter().map(event).collect(),
            Since::Anew(views) => {
                let states = views.into_iter().map(|view| (last, WatchEvent::State(view)));
                states.chain([(last, WatchEvent::Synced)]).collect()
            }
        };
        Self { registry, agent, told, changes, last }
    }

    /// The next event and its token; `None` when the agent ends.
    pub async fn next(&mut self) -> Option<(String, WatchEvent)> {
        loop {
            if let Some((number, event)) = self.told.pop_front() {
                self.last = self.last.max(number);
                return Some((self.token_of(&event, number), event));
            }
            match self.changes.recv().await {
                // It was among what was told at the begin.
                Ok(change) if change.number <= self.last => {}
                Ok(change) => self.told.push_back(event(change)),
                Err(RecvError::Lagged(_)) => {
                    *self = Self::begin(Arc::clone(&self.registry), self.agent, None);
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// None for a state: whoever has not seen all of them has to begin again.
    fn token_of(&self, event: &WatchEvent, number: u64) -> String {
        match event {
            WatchEvent::State(_) => String::new(),
            WatchEvent::Synced | WatchEvent::Changed(..) | WatchEvent::Deleted(..) => {
                format!("{}:{}:{number}", self.agent, self.registry.epoch())
            }
        }
    }
}

fn event(change: VmChange) -> (u64, WatchEvent) {
    let event = match change.what {
        What::Changed(view) => WatchEvent::Changed(view, change.origin),
        What::Deleted(id, name) => WatchEvent::Deleted(id, name, change.origin),
    };
    (change.number, event)
}
