//! Who is there, in memory. Invariant: what the store holds, and newer signs of life, which reach it
//! at most a minute later ([`Roster::unsaved`]); no lock is held while anything is waited for.
//!
//! A heartbeat is worth one interval: to wait for the disk at each would cost a thousand writes a second
//! for what is told anew half a minute later.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::presence::{Presence, presence};
use crate::domain::{AgentId, AgentRecord, Heard, Registration};
use crate::refusal::Refusal;

/// All agents.
#[derive(Debug, Default)]
pub struct Roster(Mutex<HashMap<AgentId, Entry>>);

#[derive(Debug)]
struct Entry {
    record: AgentRecord,
    last_event: u64,
    saved: Saved,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Saved {
    Yes,
    NotYet,
}

impl Roster {
    /// As the store has it.
    #[must_use]
    pub fn new(agents: Vec<AgentRecord>, last_events: &[(AgentId, u64)]) -> Self {
        let last: HashMap<AgentId, u64> = last_events.iter().copied().collect();
        let entry = |record: AgentRecord| {
            let last_event = last.get(&record.id).copied().unwrap_or_default();
            (record.id, Entry { record, last_event, saved: Saved::Yes })
        };
        Self(Mutex::new(agents.into_iter().map(entry).collect()))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AgentId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of one.
    #[must_use]
    pub fn get(&self, id: AgentId) -> Option<AgentRecord> {
        self.lock().get(&id).map(|entry| entry.record.clone())
    }

    /// All, by name, then id.
    #[must_use]
    pub fn all(&self) -> Vec<AgentRecord> {
        let mut all: Vec<_> = self.lock().values().map(|entry| entry.record.clone()).collect();
        all.sort_by(|one, other| (&one.name, one.id).cmp(&(&other.name, other.id)));
        all
    }

    /// Calls `with` on each, without copying it.
    pub fn each(&self, mut with: impl FnMut(&AgentRecord)) {
        self.lock().values().for_each(|entry| with(&entry.record));
    }

    /// Whether a certificate of that agent, issued at that time, is worth something.
    ///
    /// # Errors
    /// If the agent is not known, is revoked, or enrolled anew since.
    pub fn ensure_welcome(&self, id: AgentId, issued_at: Timestamp) -> Result<(), Refusal> {
        let agents = self.lock();
        let agent = &agents.get(&id).ok_or(Refusal::AgentUnknown(id))?.record;
        if agent.revoked_at.is_some() {
            return Err(Refusal::AgentRevoked(id));
        }
        // Certificates tell whole seconds.
        if issued_at.as_second() < agent.enrolled_at.as_second() {
            return Err(Refusal::Replaced(id));
        }
        Ok(())
    }

    /// Replaces what is known of one, as the store has it now.
    pub fn put(&self, record: AgentRecord) {
        let mut agents = self.lock();
        let last_event = agents.get(&record.id).map_or(0, |entry| entry.last_event);
        agents.insert(record.id, Entry { record, last_event, saved: Saved::Yes });
    }

    /// An agent said what it is; returns its last kept event.
    pub fn registered(&self, id: AgentId, registration: Registration, heard: Heard) -> u64 {
        self.with(id, |entry| {
            entry.record.name.clone_from(&registration.name);
            entry.record.registration = Some(registration);
            entry.record.heard = Some(heard);
            entry.saved = Saved::NotYet;
            entry.last_event
        })
        .unwrap_or_default()
    }

    /// A sign of life; returns the last kept event. One is wanted every `interval`.
    ///
    /// # Errors
    /// If that process is not the one that registered last.
    pub fn heard(
        &self,
        id: AgentId,
        instance: Uuid,
        heard: Heard,
        interval: Duration,
    ) -> Result<u64, Refusal> {
        self.with(id, |entry| {
            ensure_current(&entry.record, instance, heard.at, interval)?;
            entry.record.heard = Some(heard);
            entry.saved = Saved::NotYet;
            Ok(entry.last_event)
        })
        .unwrap_or(Err(Refusal::AgentUnknown(id)))
    }

    /// The last kept event of an agent.
    ///
    /// # Errors
    /// If that process is not the one that registered last.
    pub fn last_event(
        &self,
        id: AgentId,
        instance: Uuid,
        now: Timestamp,
        interval: Duration,
    ) -> Result<u64, Refusal> {
        self.with(id, |entry| {
            ensure_current(&entry.record, instance, now, interval).map(|()| entry.last_event)
        })
        .unwrap_or(Err(Refusal::AgentUnknown(id)))
    }

    /// The store keeps that agent's events up to this one.
    pub fn kept(&self, id: AgentId, last: u64) {
        self.with(id, |entry| entry.last_event = entry.last_event.max(last));
    }

    /// An agent is barred from now on.
    pub fn revoked(&self, id: AgentId, at: Timestamp) {
        self.with(id, |entry| entry.record.revoked_at = entry.record.revoked_at.or(Some(at)));
    }

    /// Signs of life that the store has not; they count as saved from now on.
    #[must_use]
    pub fn unsaved(&self) -> Vec<(AgentId, Heard)> {
        let mut agents = self.lock();
        let unsaved = agents.iter_mut().filter(|(_, entry)| entry.saved == Saved::NotYet);
        unsaved
            .filter_map(|(id, entry)| {
                entry.saved = Saved::Yes;
                Some((*id, entry.record.heard.clone()?))
            })
            .collect()
    }

    /// The store did not take them after all.
    pub fn not_saved(&self, ids: impl IntoIterator<Item = AgentId>) {
        for id in ids {
            self.with(id, |entry| entry.saved = Saved::NotYet);
        }
    }

    fn with<T>(&self, id: AgentId, work: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().get_mut(&id).map(work)
    }
}

fn ensure_current(
    agent: &AgentRecord,
    instance: Uuid,
    now: Timestamp,
    interval: Duration,
) -> Result<(), Refusal> {
    match &agent.registration {
        None => Err(Refusal::NotRegistered),
        Some(current) if current.instance == instance => Ok(()),
        Some(_) => match presence(agent, now, interval) {
            // The newer one is gone: the older one may have the id back.
            Presence::Draining | Presence::Offline => Err(Refusal::NotRegistered),
            Presence::Online | Presence::Degraded | Presence::Enrolled | Presence::Revoked => {
                Err(Refusal::Superseded)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::registration::tests::registration;
    use crate::domain::{Capacity, Said};

    const INTERVAL: Duration = Duration::from_secs(30);

    fn id() -> AgentId {
        "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55".parse().unwrap()
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn heard(second: i64) -> Heard {
        Heard {
            at: at(second),
            said: Said::Online,
            reasons: vec![],
            capacity: Capacity::default(),
            vms: 0,
            vms_running: 0,
            version: String::new(),
            boot_id: String::new(),
        }
    }

    fn roster() -> Roster {
        Roster::new(vec![AgentRecord::enrolled(id(), "pc-1", at(10))], &[(id(), 7)])
    }

    #[test]
    fn only_the_process_that_registered_last_is_heard() {
        let (roster, first, second) = (roster(), registration("pc-1"), registration("pc-1"));
        let beat = |of: &Registration| roster.heard(id(), of.instance, heard(1), INTERVAL);
        assert!(matches!(beat(&first), Err(Refusal::NotRegistered)));
        assert_eq!(roster.registered(id(), first.clone(), heard(1)), 7);
        assert!(matches!(beat(&first), Ok(7)));
        roster.registered(id(), second.clone(), heard(1));
        assert!(matches!(beat(&first), Err(Refusal::Superseded)));
        assert!(matches!(
            roster.last_event(id(), first.instance, at(1), INTERVAL),
            Err(Refusal::Superseded)
        ));
        assert!(beat(&second).is_ok());
    }

    #[test]
    fn an_older_process_may_come_back_when_the_newer_one_is_gone() {
        let (older, newer) = (registration("pc-1"), registration("pc-1"));
        for (last_word, silent_until) in [(Said::Draining, 2), (Said::Online, 91)] {
            let roster = roster();
            roster.registered(id(), older.clone(), heard(0));
            roster.registered(id(), newer.clone(), Heard { said: last_word, ..heard(1) });
            let beat = |second| roster.heard(id(), older.instance, heard(second), INTERVAL);
            if last_word == Said::Online {
                assert!(matches!(beat(silent_until - 1), Err(Refusal::Superseded)));
            }
            assert!(matches!(beat(silent_until), Err(Refusal::NotRegistered)));
            let reported = roster.last_event(id(), older.instance, at(silent_until), INTERVAL);
            assert!(matches!(reported, Err(Refusal::NotRegistered)));
            roster.registered(id(), older.clone(), heard(silent_until));
            assert!(matches!(beat(silent_until), Ok(7)));
        }
    }

    #[test]
    fn a_sign_of_life_is_handed_to_the_store_once_unless_the_store_fails() {
        let (roster, said) = (roster(), registration("pc-1"));
        roster.registered(id(), said.clone(), heard(1));
        roster.heard(id(), said.instance, heard(2), INTERVAL).unwrap();
        assert_eq!(roster.unsaved(), [(id(), heard(2))]);
        assert_eq!(roster.unsaved(), []);
        roster.not_saved([id()]);
        assert_eq!(roster.unsaved().len(), 1);
    }

    #[test]
    fn a_certificate_from_before_the_last_enrolment_is_worth_nothing() {
        let roster = roster();
        assert!(roster.ensure_welcome(id(), at(10)).is_ok());
        assert!(matches!(roster.ensure_welcome(id(), at(9)), Err(Refusal::Replaced(_))));
        roster.revoked(id(), at(11));
        assert!(matches!(roster.ensure_welcome(id(), at(10)), Err(Refusal::AgentRevoked(_))));
        let stranger = "1b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55".parse().unwrap();
        assert!(matches!(roster.ensure_welcome(stranger, at(10)), Err(Refusal::AgentUnknown(_))));
    }

    #[test]
    fn an_acknowledgement_never_goes_back() {
        let (roster, said) = (roster(), registration("pc-1"));
        roster.registered(id(), said.clone(), heard(1));
        roster.kept(id(), 9);
        roster.kept(id(), 8);
        assert_eq!(roster.last_event(id(), said.instance, at(1), INTERVAL).unwrap(), 9);
    }
}
