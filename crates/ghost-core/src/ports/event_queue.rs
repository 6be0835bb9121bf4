//! What the control plane has not heard of yet.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::domain::VmId;
pub use crate::domain::backlog::{LastTold, Memory, NewEvent};
use crate::domain::control::VmEvent;

/// A bounded queue of changes that survives restarts. It never refuses: when it is full, older events of a VM give
/// way to its newest; what the disk does not take is held in memory.
#[async_trait]
pub trait EventQueue: std::fmt::Debug + Send + Sync {
    /// Numbers the changes and appends them in their order; durable when it returns, unless there is
    /// [`EventQueue::trouble`].
    async fn push(&self, changes: Vec<NewEvent>);

    /// The oldest that are not acknowledged, ascending, at most so many.
    async fn oldest(&self, most: usize) -> Vec<VmEvent>;

    /// Removes all up to that number.
    async fn acknowledge(&self, up_to: u64);

    /// Agrees on numbers with a control plane whose last event of this agent is `kept`, at each registration:
    /// what it keeps is removed, and what it can't have seen gets numbers above `kept`.
    async fn agree(&self, kept: u64) -> Memory;

    /// What was last told of each VM, apart from those whose deletion was.
    async fn told(&self) -> BTreeMap<VmId, LastTold>;

    /// The number given last; 0 for none.
    async fn last(&self) -> u64;

    /// Why events are not durable now, and what to do, in one line.
    fn trouble(&self) -> Option<String>;
}
