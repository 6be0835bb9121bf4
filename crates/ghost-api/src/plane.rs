//! The use cases. Invariant: the store changes first, the memory after it, under one lock, so that
//! what is in memory was never refused by the disk. A heartbeat takes neither.

mod agents;
mod operators;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Mutex;

use crate::authority::Authority;
use crate::clock::Clock;
use crate::counters::Counters;
use crate::domain::AgentId;
use crate::domain::audit::Change;
use crate::domain::presence::{Presence, presence};
use crate::limits::{Limits, Rates};
use crate::refusal::Refusal;
use crate::roster::Roster;
use crate::store::{Store, StoreError};

pub use agents::{Beat, Certified, EnrolRequest, Registered};
pub use operators::{NewToken, Placing, Target};

/// What an operator can set.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// From one heartbeat to the next; whole seconds from 1 to 3600.
    pub interval: Duration,
    /// How often may be called.
    pub rates: Rates,
}

impl Default for Settings {
    fn default() -> Self {
        Self { interval: Duration::from_secs(30), rates: Rates::default() }
    }
}

/// Who calls, as its certificate says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bearer {
    /// The agent.
    pub agent: AgentId,
    /// When its certificate was issued.
    pub issued_at: Timestamp,
    /// From when on it is worth nothing.
    pub ends: Timestamp,
}

/// The control plane without its doors.
pub struct Plane {
    store: Arc<dyn Store>,
    authority: Authority,
    clock: Arc<dyn Clock>,
    settings: Settings,
    limits: Limits,
    roster: Roster,
    /// Held by whoever changes the store and then the roster.
    changing: Mutex<()>,
    /// What is counted.
    pub counters: Counters,
}

impl std::fmt::Debug for Plane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plane").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Plane {
    /// With what the store has; says loudly if the audit record was tampered with.
    ///
    /// # Errors
    /// If the store can't be used.
    pub async fn new(
        store: Arc<dyn Store>,
        authority: Authority,
        clock: Arc<dyn Clock>,
        settings: Settings,
    ) -> Result<Self, StoreError> {
        if let Some(number) = store.broken_audit().await? {
            tracing::error!(
                number,
                "the audit record is not as it was written from this number on; compare with a backup"
            );
        }
        let roster = Roster::new(store.agents().await?, &store.last_events().await?);
        let limits = Limits::new(settings.rates);
        let (changing, counters) = (Mutex::default(), Counters::default());
        Ok(Self { store, authority, clock, settings, limits, roster, changing, counters })
    }

    /// The clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether what is to be kept can't be kept now.
    #[must_use]
    pub fn is_forgetful(&self) -> bool {
        self.store.is_failing()
    }

    /// From one heartbeat to the next, in seconds.
    #[must_use]
    pub fn interval_seconds(&self) -> u32 {
        u32::try_from(self.settings.interval.as_secs()).unwrap_or(u32::MAX)
    }

    /// Whether that certificate is worth something still.
    ///
    /// # Errors
    /// If it ended, or the agent is not known, revoked, or enrolled anew since.
    pub fn welcome(&self, bearer: &Bearer) -> Result<AgentId, Refusal> {
        if self.now() >= bearer.ends {
            return Err(Refusal::CertificateEnded(bearer.ends));
        }
        self.roster.ensure_welcome(bearer.agent, bearer.issued_at)?;
        Ok(bearer.agent)
    }

    /// Hands new signs of life to the store.
    ///
    /// # Errors
    /// If the store can't be used; they are handed over at the next try then.
    pub async fn save(&self) -> Result<(), StoreError> {
        let unsaved = self.roster.unsaved();
        if unsaved.is_empty() {
            return Ok(());
        }
        let ids: Vec<AgentId> = unsaved.iter().map(|(id, _)| *id).collect();
        self.store.heard(unsaved).await.inspect_err(|_| self.roster.not_saved(ids))
    }

    /// How many agents there are of each presence.
    #[must_use]
    pub fn census(&self) -> Vec<(Presence, usize)> {
        let mut counts = Presence::ALL.map(|presence| (presence, 0));
        let now = self.now();
        self.roster.each(|agent| {
            let is = presence(agent, now, self.settings.interval);
            counts.iter_mut().filter(|(of, _)| *of == is).for_each(|(_, count)| *count += 1);
        });
        counts.to_vec()
    }

    fn change(&self, who: &str, what: &'static str, detail: String) -> Change {
        Change { at: self.now(), who: who.to_owned(), what, detail }
    }
}
