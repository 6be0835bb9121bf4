//! How many may be connected. Invariant: who has no agent's certificate takes no place of those who have,
//! and no single caller takes those of all others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::AgentId;
use crate::grpc::caller::{Caller, Proof};

/// Most connections of agents: 10,000 of them, each with one.
const AGENTS: usize = 10_240;
/// Most of one agent: its present one, and former ones whose end was not noticed yet.
const OF_ONE_AGENT: usize = 8;
/// Most connections of others.
const STRANGERS: usize = 256;
/// Most of one address that is no agent's.
const OF_ONE_ADDRESS: usize = 16;
/// Most of this host's own address, which all its users have in common.
const OF_LOOPBACK: usize = 128;

/// The places.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<Mutex<Taken>>);

#[derive(Debug, Default)]
struct Taken {
    agents: usize,
    strangers: usize,
    by: HashMap<Holder, usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    Agent(AgentId),
    Address(IpAddr),
}

/// A place, until it is dropped.
#[derive(Debug)]
pub(in crate::grpc) struct Place {
    places: Places,
    holder: Holder,
}

/// Why a caller is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NoPlace {
    #[error("all {AGENTS} connections of agents are taken")]
    Agents,
    #[error("this agent has {OF_ONE_AGENT} connections already; do several hosts share its id?")]
    Agent,
    #[error("all {STRANGERS} connections without an agent's certificate are taken")]
    Strangers,
    #[error("this address has its share of connections without an agent's certificate already")]
    Address,
}

impl Places {
    /// A place for that caller.
    ///
    /// # Errors
    /// If its share, or all of its kind, are taken.
    pub(super) fn take(&self, caller: &Caller) -> Result<Place, NoPlace> {
        let peer = caller.peer.ip().to_canonical();
        let (holder, share) = match caller.proof {
            Proof::Agent(bearer) => (Holder::Agent(bearer.agent), OF_ONE_AGENT),
            Proof::Nothing | Proof::NoAgent if peer.is_loopback() => {
                (Holder::Address(peer), OF_LOOPBACK)
            }
            Proof::Nothing | Proof::NoAgent => (Holder::Address(peer), OF_ONE_ADDRESS),
        };
        let (most, all, one) = match holder {
            Holder::Agent(_) => (AGENTS, NoPlace::Agents, NoPlace::Agent),
            Holder::Address(_) => (STRANGERS, NoPlace::Strangers, NoPlace::Address),
        };
        let mut taken = self.lock();
        if taken.by.get(&holder).is_some_and(|held| *held >= share) {
            return Err(one);
        }
        let of_kind = taken.of_kind(holder);
        if *of_kind >= most {
            return Err(all);
        }
        *of_kind += 1;
        *taken.by.entry(holder).or_default() += 1;
        Ok(Place { places: self.clone(), holder })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn of_kind(&mut self, holder: Holder) -> &mut usize {
        match holder {
            Holder::Agent(_) => &mut self.agents,
            Holder::Address(_) => &mut self.strangers,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        *taken.of_kind(self.holder) -= 1;
        if let Some(held) = taken.by.get_mut(&self.holder) {
            *held -= 1;
            if *held == 0 {
                taken.by.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plane::Bearer;
    use jiff::Timestamp;

    fn stranger(peer: [u8; 4]) -> Caller {
        Caller { peer: (peer, 4000).into(), proof: Proof::Nothing }
    }

    fn agent(id: &str) -> Caller {
        let (issued_at, ends) = (Timestamp::MIN, Timestamp::MAX);
        let bearer = Bearer { agent: id.parse().unwrap(), issued_at, ends };
        Caller { peer: ([100, 64, 0, 1], 4000).into(), proof: Proof::Agent(bearer) }
    }

    #[test]
    fn nobody_takes_more_than_his_share_and_strangers_none_of_the_agents() {
        let places = Places::default();
        let mut held = Vec::new();
        for c in 0..16 {
            held.extend(std::iter::from_fn(|| places.take(&stranger([10, 0, 0, c])).ok()));
        }
        assert_eq!(held.len(), STRANGERS);
        assert_eq!(places.take(&stranger([10, 0, 1, 1])).unwrap_err(), NoPlace::Strangers);
        assert_eq!(places.take(&stranger([10, 0, 0, 0])).unwrap_err(), NoPlace::Address);
        let one = agent("0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55");
        let mine: Vec<_> = std::iter::from_fn(|| places.take(&one).ok()).collect();
        assert_eq!(mine.len(), OF_ONE_AGENT);
        assert_eq!(places.take(&one).unwrap_err(), NoPlace::Agent);
        places.take(&agent("1b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55")).unwrap();
    }

    #[test]
    fn a_place_is_free_again_when_its_connection_ends() {
        let (places, caller) = (Places::default(), stranger([127, 0, 0, 1]));
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(&caller).ok()).collect();
        assert_eq!(held.len(), OF_LOOPBACK);
        held.pop();
        held.push(places.take(&caller).unwrap());
        drop(held);
        assert!(places.lock().by.is_empty());
        assert_eq!(places.lock().strangers, 0);
    }
}
