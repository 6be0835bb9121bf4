//! The agents.

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{ReadableTable as _, WriteTransaction};

use super::tables::{AGENTS, get, put, put_on_record};
use super::{Attempt, RedbStore};
use crate::domain::audit::Change;
use crate::domain::{AgentId, AgentRecord, Heard, Registration};
use crate::store::{Agents, StoreError};

#[async_trait]
impl Agents for RedbStore {
    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        self.read("read the agents", |transaction| {
            let table = transaction.open_table(AGENTS)?;
            let all = table.iter()?;
            all.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?)).collect()
        })
        .await
    }

    async fn register(
        &self,
        agent: AgentId,
        registration: Registration,
        heard: Heard,
        change: Option<Change>,
    ) -> Result<(), StoreError> {
        self.write("keep a registration", move |transaction| {
            update(transaction, agent, |agent| {
                agent.name.clone_from(&registration.name);
                agent.registration = Some(registration);
                agent.heard = Some(heard);
                true
            })?;
            change.map_or(Ok(()), |change| put_on_record(transaction, change))
        })
        .await
    }

    async fn heard(&self, all: Vec<(AgentId, Heard)>) -> Result<(), StoreError> {
        self.write("keep who was heard of", move |transaction| {
            for (id, heard) in all {
                update(transaction, id, |agent| {
                    agent.heard = Some(heard);
                    true
                })?;
            }
            Ok(())
        })
        .await
    }

    async fn revoke(&self, id: AgentId, at: Timestamp, change: Change) -> Result<(), StoreError> {
        self.write("revoke an agent", move |transaction| {
            let revoked = update(transaction, id, |agent| {
                let first = agent.revoked_at.is_none();
                agent.revoked_at = agent.revoked_at.or(Some(at));
                first
            })?;
            if revoked { put_on_record(transaction, change) } else { Ok(()) }
        })
        .await
    }
}

/// Changes the record of an agent, if it is known; says whether `work` changed something.
fn update(
    transaction: &WriteTransaction,
    id: AgentId,
    work: impl FnOnce(&mut AgentRecord) -> bool,
) -> Attempt<bool> {
    let mut table = transaction.open_table(AGENTS)?;
    let Some(mut agent) = get::<AgentRecord>(&table, &id.to_string())? else { return Ok(false) };
    let changed = work(&mut agent);
    put(&mut table, &id.to_string(), &agent)?;
    Ok(changed)
}
