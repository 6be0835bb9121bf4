//! A store that forgets at its end: for tests. It can be told to fail, and to be slow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use tokio::sync::{RwLock, RwLockWriteGuard};

use super::{Agents, EnrolError, Journal, StoreError, Tokens, earlier, enrolled};
use crate::domain::audit::{AuditRecord, Change, Walk};
use crate::domain::event::{KeptEvent, MOST_KEPT};
use crate::domain::token::{Admission, Applicant, Hash, Token, Used, admit};
use crate::domain::{AgentId, AgentRecord, Heard, Registration, VmEvent};

/// The store.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
    /// Enrolments wait here while somebody holds it.
    gate: RwLock<()>,
    enrolments: AtomicUsize,
}

#[derive(Debug, Default)]
struct State {
    failing: Option<&'static str>,
    tokens: BTreeMap<Hash, Token>,
    agents: BTreeMap<AgentId, AgentRecord>,
    events: BTreeMap<AgentId, BTreeMap<u64, KeptEvent>>,
    audit: Vec<Vec<u8>>,
    assigned: BTreeMap<String, AgentId>,
}

impl MemoryStore {
    /// From now on every call fails for that reason; with `None` it works again.
    pub fn fail(&self, why: Option<&'static str>) {
        self.lock().failing = why;
    }

    /// Makes enrolments wait until it is dropped.
    pub async fn hold(&self) -> RwLockWriteGuard<'_, ()> {
        self.gate.write().await
    }

    /// How many enrolments came so far.
    pub fn came(&self) -> usize {
        self.enrolments.load(Ordering::SeqCst)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn state(&self, doing: &'static str) -> Result<MutexGuard<'_, State>, StoreError> {
        let state = self.lock();
        match state.failing {
            None => Ok(state),
            Some(why) => Err(StoreError { doing, source: why.into() }),
        }
    }
}

impl State {
    fn put_on_record(&mut self, change: Change) {
        let last = self.audit.last().map(|last| (self.audit.len() as u64, last.as_slice()));
        let record = AuditRecord::behind(last, change);
        self.audit.extend(serde_json::to_vec(&record));
    }
}

#[async_trait]
impl Tokens for MemoryStore {
    async fn add_token(&self, token: Token, change: Change) -> Result<(), StoreError> {
        let mut state = self.state("keep a key")?;
        let oldest = earlier(change.at, super::FORGOTTEN_AFTER);
        state.tokens.retain(|_, token| token.expires_at >= oldest);
        state.tokens.insert(token.hash, token);
        state.put_on_record(change);
        Ok(())
    }

    async fn enrol(
        &self,
        who: Applicant,
        change: Change,
    ) -> Result<(AgentRecord, Admission), EnrolError> {
        self.enrolments.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.read().await;
        let mut state = self.state("enrol an agent").map_err(EnrolError::Store)?;
        let former = state.agents.get(&who.agent).cloned();
        let admission = admit(state.tokens.get(&who.secret), former.as_ref(), &who)
            .map_err(EnrolError::Refused)?;
        if let (Admission::Repeated, Some(agent)) = (admission, &former) {
            return Ok((agent.clone(), admission));
        }
        let agent = enrolled(former, &who);
        if let Some(token) = state.tokens.get_mut(&who.secret) {
            token.used = Some(Used { agent: who.agent, public_key: who.public_key, at: who.at });
        }
        state.agents.insert(who.agent, agent.clone());
        state.put_on_record(change);
        Ok((agent, admission))
    }
}

#[async_trait]
impl Agents for MemoryStore {
    async fn agents(&self) -> Result<Vec<AgentRecord>, StoreError> {
        Ok(self.state("read the agents")?.agents.values().cloned().collect())
    }

    async fn register(
        &self,
        agent: AgentId,
        registration: Registration,
        heard: Heard,
        change: Option<Change>,
    ) -> Result<(), StoreError> {
        let mut state = self.state("keep a registration")?;
        if let Some(agent) = state.agents.get_mut(&agent) {
            agent.name.clone_from(&registration.name);
            agent.registration = Some(registration);
            agent.heard = Some(heard);
        }
        change.into_iter().for_each(|change| state.put_on_record(change));
        Ok(())
    }

    async fn heard(&self, all: Vec<(AgentId, Heard)>) -> Result<(), StoreError> {
        let mut state = self.state("keep who was heard of")?;
        for (id, heard) in all {
            if let Some(agent) = state.agents.get_mut(&id) {
                agent.heard = Some(heard);
            }
        }
        Ok(())
    }

    async fn revoke(&self, id: AgentId, at: Timestamp, change: Change) -> Result<(), StoreError> {
        let mut state = self.state("revoke an agent")?;
        if let Some(agent) = state.agents.get_mut(&id)
            && agent.revoked_at.is_none()
        {
            agent.revoked_at = Some(at);
            state.put_on_record(change);
        }
        Ok(())
    }
}

#[async_trait]
impl Journal for MemoryStore {
    async fn keep_events(
        &self,
        agent: AgentId,
        kept_at: Timestamp,
        events: Vec<VmEvent>,
    ) -> Result<u64, StoreError> {
        let mut state = self.state("keep events")?;
        let kept = state.events.entry(agent).or_default();
        let mut last = kept.last_key_value().map_or(0, |(sequence, _)| *sequence);
        for event in events {
            if event.sequence > last {
                last = event.sequence;
                kept.insert(last, KeptEvent { agent, kept_at, event });
            }
        }
        while kept.len() as u64 > MOST_KEPT {
            kept.pop_first();
        }
        Ok(last)
    }

    async fn last_events(&self) -> Result<Vec<(AgentId, u64)>, StoreError> {
        let state = self.state("read events")?;
        let last = |(agent, kept): (&AgentId, &BTreeMap<u64, _>)| {
            Some((*agent, *kept.last_key_value()?.0))
        };
        Ok(state.events.iter().filter_map(last).collect())
    }

    async fn events(
        &self,
        agent: Option<AgentId>,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        let state = self.state("read events")?;
        let asked = |(id, _): &(&AgentId, _)| agent.is_none_or(|agent| agent == **id);
        let all = state.events.iter().filter(asked).flat_map(|(_, kept)| kept.values().cloned());
        Ok(newest(all.collect(), limit))
    }

    async fn record(&self, change: Change) -> Result<(), StoreError> {
        self.state("put a change on record")?.put_on_record(change);
        Ok(())
    }

    async fn assign(
        &self,
        request_id: String,
        agent: AgentId,
        change: Change,
    ) -> Result<AgentId, StoreError> {
        let mut state = self.state("put a command on record")?;
        state.put_on_record(change);
        Ok(*state.assigned.entry(request_id).or_insert(agent))
    }

    async fn assigned(&self, request_id: String) -> Result<Option<AgentId>, StoreError> {
        Ok(self.state("read the commands")?.assigned.get(&request_id).copied())
    }

    async fn audit(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let state = self.state("read the audit record")?;
        let skip = state.audit.len().saturating_sub(limit);
        let stored = state.audit.iter().skip(skip);
        Ok(stored.filter_map(|record| serde_json::from_slice(record).ok()).collect())
    }

    async fn broken_audit(&self) -> Result<Option<u64>, StoreError> {
        let mut walk = Walk::default();
        let state = self.state("read the audit record")?;
        Ok(state.audit.iter().find_map(|record| walk.step(record).err()))
    }

    fn is_failing(&self) -> bool {
        self.lock().failing.is_some()
    }
}

/// The newest `limit` of them, oldest first.
pub(super) fn newest(mut events: Vec<KeptEvent>, limit: usize) -> Vec<KeptEvent> {
    events.sort_by_key(|kept| (kept.kept_at, kept.agent, kept.event.sequence));
    events.split_off(events.len().saturating_sub(limit))
}
