//! Events, commands and the audit record.

use async_trait::async_trait;
use jiff::Timestamp;
use redb::{ReadTransaction, ReadableTable as _, ReadableTableMetadata as _, Table};

use super::tables::{ASSIGNED, AUDIT, EVENTS, HEADS, put_on_record};
use super::{Attempt, RedbStore};
use crate::domain::audit::{AuditRecord, Change, Walk};
use crate::domain::event::{KeptEvent, MOST_KEPT};
use crate::domain::{AgentId, VmEvent};
use crate::store::memory::newest;
use crate::store::{self, Journal, StoreError, earlier};

#[async_trait]
impl Journal for RedbStore {
    async fn keep_events(
        &self,
        agent: AgentId,
        kept_at: Timestamp,
        events: Vec<VmEvent>,
    ) -> Result<u64, StoreError> {
        self.write("keep events", move |transaction| {
            let mut heads = transaction.open_table(HEADS)?;
            let mut table = transaction.open_table(EVENTS)?;
            let key = agent.to_string();
            let (mut last, mut kept) = heads.get(key.as_str())?.map_or((0, 0), |head| head.value());
            for event in events {
                if event.sequence > last {
                    last = event.sequence;
                    kept += 1;
                    let event = serde_json::to_vec(&KeptEvent { agent, kept_at, event })?;
                    table.insert((key.as_str(), last), event.as_slice())?;
                }
            }
            kept -= give_way(&mut table, &key, kept.saturating_sub(MOST_KEPT))?;
            heads.insert(key.as_str(), (last, kept))?;
            Ok(last)
        })
        .await
    }

    async fn last_events(&self) -> Result<Vec<(AgentId, u64)>, StoreError> {
        self.read("read events", |transaction| {
            let heads = transaction.open_table(HEADS)?;
            let all = heads.iter()?;
            all.map(|entry| {
                let (agent, head) = entry?;
                Ok((agent.value().parse()?, head.value().0))
            })
            .collect()
        })
        .await
    }

    async fn events(
        &self,
        agent: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        self.read("read events", move |transaction| {
            let agents = match agent {
                Some(agent) => vec![agent.to_string()],
                None => transaction
                    .open_table(HEADS)?
                    .iter()?
                    .map(|entry| Ok(entry?.0.value().to_owned()))
                    .collect::<Attempt<_>>()?,
            };
            let mut all = Vec::new();
            for agent in agents {
                all.extend(newest_of(transaction, &agent, limit)?);
            }
            Ok(newest(all, limit))
        })
        .await
    }

    async fn record(&self, change: Change) -> Result<(), StoreError> {
        self.write("put a change on record", |transaction| put_on_record(transaction, change)).await
    }

    async fn assign(
        &self,
        request_id: String,
        agent: AgentId,
        change: Change,
    ) -> Result<AgentId, StoreError> {
        self.write("put a command on record", move |transaction| {
            let mut table = transaction.open_table(ASSIGNED)?;
            let now = change.at;
            put_on_record(transaction, change)?;
            let former = table.get(request_id.as_str())?.map(|former| former.value().0.parse());
            if let Some(former) = former {
                return Ok(former?);
            }
            if table.len()? >= store::ASSIGNED {
                let oldest = earlier(now, store::ASSIGNED_FOR).as_second();
                table.retain(|_, (_, at)| at >= oldest)?;
            }
            table.insert(request_id.as_str(), (agent.to_string().as_str(), now.as_second()))?;
            Ok(agent)
        })
        .await
    }

    async fn assigned(&self, request_id: String) -> Result<Option<AgentId>, StoreError> {
        self.read("read the commands", move |transaction| {
            let table = transaction.open_table(ASSIGNED)?;
            let former = table.get(request_id.as_str())?;
            Ok(former.map(|former| former.value().0.parse()).transpose()?)
        })
        .await
    }

    async fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read("read the audit record", move |transaction| {
            let table = transaction.open_table(AUDIT)?;
            let newest = table.iter()?.rev().take(limit);
            let mut records = newest
                .map(|entry| Ok(serde_json::from_slice(entry?.1.value())?))
                .collect::<Attempt<Vec<AuditRecord>>>()?;
            records.reverse();
            Ok(records)
        })
        .await
    }

    async fn broken_audit(&self) -> Result<Option<u64>, StoreError> {
        self.read("read the audit record", |transaction| {
            let mut walk = Walk::default();
            for entry in transaction.open_table(AUDIT)?.iter()? {
                if let Err(number) = walk.step(entry?.1.value()) {
                    return Ok(Some(number));
                }
            }
            Ok(None)
        })
        .await
    }

    fn is_failing(&self) -> bool {
        self.has_failed()
    }
}

/// Removes the oldest `count` events of an agent, and says how many there were.
fn give_way(
    table: &mut Table<'_, (&'static str, u64), &'static [u8]>,
    agent: &str,
    count: u64,
) -> Attempt<u64> {
    let most = usize::try_from(count)?;
    if most == 0 {
        return Ok(0);
    }
    let oldest = table.range((agent, 0)..=(agent, u64::MAX))?.take(most);
    let oldest: Vec<u64> =
        oldest.map(|entry| Ok(entry?.0.value().1)).collect::<Attempt<Vec<u64>>>()?;
    for sequence in &oldest {
        table.remove((agent, *sequence))?;
    }
    Ok(oldest.len() as u64)
}

fn newest_of(transaction: &ReadTransaction, agent: &str, limit: usize) -> Attempt<Vec<KeptEvent>> {
    let table = transaction.open_table(EVENTS)?;
    let newest = table.range((agent, 0)..=(agent, u64::MAX))?.rev().take(limit);
    newest.map(|entry| Ok(serde_json::from_slice(entry?.1.value())?)).collect()
}
