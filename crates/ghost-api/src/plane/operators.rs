//! What operators ask for. Invariant: whatever they change is on record, with who it was; a command to
//! an agent is on record before it is sent.

use std::time::Duration;

use jiff::Timestamp;

use super::Plane;
use crate::domain::audit::AuditRecord;
use crate::domain::event::KeptEvent;
use crate::domain::placement::{Candidate, Wanted, pick};
use crate::domain::presence::{Presence, presence};
use crate::domain::text::cut;
use crate::domain::token::{Secret, Token};
use crate::domain::{AgentId, AgentRecord};
use crate::refusal::Refusal;

/// How long a key may be good for: long enough to be typed, short enough to be forgotten.
const TTL: std::ops::RangeInclusive<Duration> =
    Duration::from_secs(60)..=Duration::from_secs(30 * 86_400);
/// Most events or records that are told at once: each is some hundred bytes.
const MOST_LISTED: usize = 10_000;

/// A key that was just made.
#[derive(Debug)]
pub struct NewToken {
    /// To be passed on, once.
    pub key: String,
    /// From when on it is good for nothing.
    pub expires_at: Timestamp,
}

/// An agent that can be commanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Who it is.
    pub id: AgentId,
    /// What it is called.
    pub name: String,
    /// Where it listens, "host:port".
    pub address: String,
}

/// Where a VM shall go.
#[derive(Debug)]
pub struct Placing {
    /// Name or UUID; empty for any.
    pub agent: String,
    /// What is needed.
    pub wanted: Wanted,
    /// Of the create.
    pub request_id: String,
    /// What the VM is called.
    pub vm_name: String,
}

impl Plane {
    /// Makes a one-time key of `random` bits; `agent` is empty for a new agent.
    ///
    /// # Errors
    /// If the time is out of bounds, or the agent is not known or revoked.
    pub async fn create_token(
        &self,
        who: &str,
        ttl: Duration,
        agent: &str,
        random: [u8; 32],
    ) -> Result<NewToken, Refusal> {
        if !TTL.contains(&ttl) {
            return Err(Refusal::BadRequest(
                "a key is good for 1 minute to 30 days; choose a time between".to_owned(),
            ));
        }
        let made_for = if agent.is_empty() {
            None
        } else {
            let agent = self.find(agent)?;
            if agent.revoked_at.is_some() {
                return Err(Refusal::AgentRevoked(agent.id));
            }
            Some(agent.id)
        };
        let expires_at = self.now().checked_add(ttl).unwrap_or(Timestamp::MAX);
        let secret = Secret::new(random);
        let token = Token { hash: secret.hash(), expires_at, made_for, used: None };
        let bearer = made_for.map_or_else(|| "a new agent".to_owned(), |id| format!("agent {id}"));
        let change = self.change(who, "token created", format!("for {bearer}, until {expires_at}"));
        self.store.add_token(token, change).await?;
        Ok(NewToken { key: secret.key(self.authority.digest()), expires_at })
    }

    /// All agents and how they are, by name.
    #[must_use]
    pub fn list(&self) -> Vec<(AgentRecord, Presence)> {
        let now = self.now();
        let with = |agent: AgentRecord| {
            let is = presence(&agent, now, self.settings.interval);
            (agent, is)
        };
        self.roster.all().into_iter().map(with).collect()
    }

    /// Bars an agent; barring it again changes nothing.
    ///
    /// # Errors
    /// If there is no such agent, or more than one.
    pub async fn revoke(&self, who: &str, agent: &str) -> Result<(), Refusal> {
        let agent = self.find(agent)?;
        let change = self.change(who, "agent revoked", format!("{} {}", agent.name, agent.id));
        let _changing = self.changing.lock().await;
        let at = change.at;
        self.store.revoke(agent.id, at, change).await?;
        self.roster.revoked(agent.id, at);
        Ok(())
    }

    /// The newest events of one agent, or of all if `agent` is empty; oldest first.
    ///
    /// # Errors
    /// If there is no such agent, or more than one.
    pub async fn events(&self, agent: &str, limit: u32) -> Result<Vec<KeptEvent>, Refusal> {
        let agent = if agent.is_empty() { None } else { Some(self.find(agent)?.id) };
        Ok(self.store.events(agent, most(limit)).await?)
    }

    /// The newest records, oldest first.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRecord>, Refusal> {
        Ok(self.store.audit(most(limit)).await?)
    }

    /// Decides where a VM goes, and puts it on record. The same `request_id` goes to the same agent.
    ///
    /// # Errors
    /// If no agent can have it, or the named one can't be commanded.
    pub async fn place(&self, who: &str, ask: &Placing) -> Result<Target, Refusal> {
        let chosen = if let Some(holder) = self.store.assigned(ask.request_id.clone()).await? {
            if !ask.agent.is_empty() && self.find(&ask.agent)?.id != holder {
                return Err(Refusal::BadRequest(format!(
                    "request {} went to agent {holder} before, and its VM may be there; leave the agent out, or choose another request id",
                    cut(&ask.request_id, 128)
                )));
            }
            // The VM may be there already, and have taken the last room.
            holder
        } else if ask.agent.is_empty() {
            let all = self.list();
            let all: Vec<_> = all
                .iter()
                .map(|(agent, presence)| Candidate { agent, presence: *presence })
                .collect();
            match pick(&all, &ask.wanted) {
                Ok(id) => id,
                Err(none) => return Err(Refusal::NoneFits(none)),
            }
        } else {
            self.commandable(&ask.agent)?.id
        };
        let detail = format!(
            "{} ({}, {} CPUs, {} GiB, disk {} GiB) on {chosen}, request {}",
            ask.vm_name,
            ask.wanted.template,
            ask.wanted.vcpu,
            ask.wanted.ram_gib,
            ask.wanted.disk_gib,
            ask.request_id
        );
        let change = self.change(who, "vm create asked", detail);
        let holder = self.store.assign(ask.request_id.clone(), chosen, change).await?;
        self.commandable(&holder.to_string())
    }

    /// The agent of that name or UUID, if it can be commanded. Whether it answers, shows.
    ///
    /// # Errors
    /// If there is none, more than one, or it can't be commanded.
    pub fn commandable(&self, agent: &str) -> Result<Target, Refusal> {
        let AgentRecord { id, name, revoked_at, registration, .. } = self.find(agent)?;
        let refuse = |name, why| Err(Refusal::NotCommandable { name, why });
        match registration {
            _ if revoked_at.is_some() => refuse(name, "was revoked"),
            None => refuse(name, "never registered; is ghost-agent running there?"),
            Some(one) if one.address.is_empty() => {
                refuse(name, "listens on its own host only; set its grpc.listen_addr")
            }
            Some(one) => Ok(Target { id, name, address: one.address }),
        }
    }

    /// Puts a command on record before it is given.
    ///
    /// # Errors
    /// If the store can't be used: the command must not be given then.
    pub async fn record(
        &self,
        who: &str,
        what: &'static str,
        detail: String,
    ) -> Result<(), Refusal> {
        Ok(self.store.record(self.change(who, what, detail)).await?)
    }

    /// Puts what became of a command on record. A store that fails then does not make it undone.
    pub async fn note(&self, who: &str, what: &'static str, detail: String) {
        if let Err(error) = self.store.record(self.change(who, what, detail)).await {
            tracing::error!(%error, cause = ?error.source, what, "cannot put on record what was done");
        }
    }

    fn find(&self, name: &str) -> Result<AgentRecord, Refusal> {
        if let Ok(id) = name.parse() {
            return self.roster.get(id).ok_or_else(|| Refusal::NoSuchAgent(name.to_owned()));
        }
        let mut named: Vec<_> =
            self.roster.all().into_iter().filter(|agent| agent.name == name).collect();
        if named.len() > 1 {
            // Who came back under a new id keeps its name.
            named.retain(|agent| agent.revoked_at.is_none());
        }
        match (named.len(), named.pop()) {
            (1, Some(agent)) => Ok(agent),
            (_, None) => Err(Refusal::NoSuchAgent(cut(name, 64))),
            (count, Some(_)) => Err(Refusal::Ambiguous { name: name.to_owned(), count }),
        }
    }
}

fn most(limit: u32) -> usize {
    match usize::try_from(limit) {
        Ok(0) => 100,
        Ok(limit) => limit.min(MOST_LISTED),
        Err(_) => MOST_LISTED,
    }
}
