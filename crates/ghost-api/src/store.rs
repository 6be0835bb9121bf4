//! What outlives the process: a port, so that a distributed store can take the place of the embedded one.
//!
//! Invariant: each method is one transaction: all of it is there afterwards, or nothing; a change and
//! its audit record are never apart.

#[cfg(test)]
mod contract;
pub mod memory;
pub mod redb;

use async_trait::async_trait;
use jiff::Timestamp;

use crate::domain::audit::{AuditRecord, Change};
use crate::domain::event::KeptEvent;
use crate::domain::token::{Admission, Applicant, KeyRefusal, Token};
use crate::domain::{AgentId, AgentRecord, Heard, Registration, VmEvent};

/// The store can't be used. The cause is for the log.
#[derive(Debug, thiserror::Error)]
#[error("the store cannot {doing}")]
pub struct StoreError {
    /// What was tried.
    pub doing: &'static str,
    /// What the store said.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Why nobody was enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The key opens nothing.
    #[error(transparent)]
    Refused(KeyRefusal),
    /// The store can't be used.
    #[error(transparent)]
    Store(StoreError),
}

/// One-time keys.
#[async_trait]
pub trait Tokens: Send + Sync {
    /// Keeps a new key; forgets those that expired a week before it was made.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn add_token(&self, token: Token, change: Change) -> Result<(), StoreError>;

    /// Uses a key up and enrols its bearer: of many who show the same key, one gets in. How it
    /// decides is [`crate::domain::token::admit`]; `change` is on record only if something changed.
    ///
    /// # Errors
    /// See [`EnrolError`].
    async fn enrol(
        &self,
        who: Applicant,
        change: Change,
    ) -> Result<(AgentRecord, Admission), EnrolError>;
}

/// The agents.
#[async_trait]
pub trait Agents: Send + Sync {
    /// All that are known, by id.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError>;

    /// Keeps what an agent said of itself, and that it was heard of. Nothing happens to one that is not known.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn register(
        &self,
        agent: AgentId,
        registration: Registration,
        heard: Heard,
        change: Option<Change>,
    ) -> Result<(), StoreError>;

    /// Keeps the last signs of life of many.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn heard(&self, all: Vec<(AgentId, Heard)>) -> Result<(), StoreError>;

    /// Bars an agent for good. Nothing happens to one that is not known, or barred already.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn revoke(&self, agent: AgentId, at: Timestamp, change: Change)
    -> Result<(), StoreError>;
}

/// What happened.
#[async_trait]
pub trait Journal: Send + Sync {
    /// Keeps those of the events that are newer than the last kept one of that agent, and says
    /// which is the last now (0: none). Old ones give way, see [`crate::domain::event::MOST_KEPT`].
    ///
    /// # Errors
    /// If the store can't be used.
    async fn keep_events(
        &self,
        agent: AgentId,
        kept_at: Timestamp,
        events: Vec<VmEvent>,
    ) -> Result<u64, StoreError>;

    /// The last kept event of each agent that has one.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn last_events(&self) -> Result<Vec<(AgentId, u64)>, StoreError>;

    /// The newest `limit` events of one agent or of all, oldest first.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn events(
        &self,
        agent: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError>;

    /// Puts a change on record.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn record(&self, change: Change) -> Result<(), StoreError>;

    /// Puts a command on record, and says which agent has it: the one that a former command of that
    /// `request_id` went to, else `agent`. So a repeated command makes no second VM elsewhere. Known for a day at least.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn assign(
        &self,
        request_id: String,
        agent: AgentId,
        change: Change,
    ) -> Result<AgentId, StoreError>;

    /// The agent that a former command of that id went to.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn assigned(&self, request_id: String) -> Result<Option<AgentId>, StoreError>;

    /// The newest `limit` records, oldest first.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError>;

    /// The number of the first record that is not as it was written, if there is one.
    ///
    /// # Errors
    /// If the store can't be used.
    async fn broken_audit(&self) -> Result<Option<u64>, StoreError>;

    /// Whether the last access failed, from memory.
    fn is_failing(&self) -> bool;
}

/// All of it.
pub trait Store: Tokens + Agents + Journal {}
impl<T: Tokens + Agents + Journal> Store for T {}

/// Keys that expired so long ago, in seconds, are forgotten: until then their bearer is told why.
const FORGOTTEN_AFTER: i64 = 7 * 86_400;
/// Request ids that are known at least.
const ASSIGNED: u64 = 10_000;
/// Beyond [`ASSIGNED`], those older than so many seconds are forgotten.
const ASSIGNED_FOR: i64 = 86_400;

/// `at` less so many seconds.
fn earlier(at: Timestamp, seconds: i64) -> Timestamp {
    Timestamp::from_second(at.as_second() - seconds).unwrap_or(Timestamp::MIN)
}

/// What enrolling makes of the record.
fn enrolled(former: Option<AgentRecord>, who: &Applicant) -> AgentRecord {
    match former {
        // Who lost its key begins anew, and whoever found the old certificate has nothing of it.
        Some(former) => AgentRecord { enrolled_at: who.at, name: who.name.clone(), ..former },
        None => AgentRecord::enrolled(who.agent, &who.name, who.at),
    }
}
