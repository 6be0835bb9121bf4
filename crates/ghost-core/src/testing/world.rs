//! A host in memory. It behaves as libvirt does: calls are idempotent where the ports say so,
//! power changes are told as events, a guest takes its lease some time after it was started.

mod images;
mod ports;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{broadcast, watch};
use uuid::Uuid;

use super::clock::FakeClock;
use super::faults::Faults;
use super::meter::MemoryMeter;
use crate::domain::{Bytes, Definition, Fetching, Gib, OffCause, PowerState, VmId, VmRecord};
use crate::ports::{Clock, HostFacts, HypervisorEvent, Lease, PoolSpace, Ports};

/// How guests behave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    /// Takes its address after that time, powers off when asked.
    Boots(Duration),
    /// Never takes an address, powers off when asked.
    TakesNoAddress,
    /// Takes its address after that time, does not power off when asked.
    IgnoresPowerOff(Duration),
}

#[derive(Debug)]
struct FakeDomain {
    power: PowerState,
    started: Option<Duration>,
    record: VmRecord,
    definition: Definition,
}

#[derive(Debug)]
struct State {
    guest: Guest,
    facts: HostFacts,
    space: PoolSpace,
    image: Bytes,
    images: images::Cache,
    domains: BTreeMap<VmId, FakeDomain>,
    addresses: BTreeMap<VmId, Ipv4Addr>,
    leases: BTreeMap<VmId, Lease>,
    overlays: BTreeSet<VmId>,
    seeds: BTreeMap<VmId, Vec<u8>>,
    records: BTreeMap<VmId, VmRecord>,
}

/// The host and all of its ports.
#[derive(Debug)]
pub struct World {
    /// Which calls were made, and which is to fail.
    pub faults: Faults,
    /// Its time.
    pub clock: Arc<FakeClock>,
    /// What the use cases told of their work.
    pub meter: Arc<MemoryMeter>,
    state: Mutex<State>,
    events: broadcast::Sender<HypervisorEvent>,
    fetching: watch::Sender<Vec<Fetching>>,
}

/// What a host with so many CPUs has.
fn facts(cpus: u32) -> HostFacts {
    let ram = Bytes(256 * Gib::BYTES);
    HostFacts { cpus: (0..cpus).collect(), ram, boot: Uuid::from_u128(1) }
}

impl World {
    /// 64 CPUs, 256 GiB, a pool of 10 TiB, an image of 2 GiB, guests that boot in 0.1 s.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let pool = Bytes(10_240 * Gib::BYTES);
        let state = State {
            guest: Guest::Boots(Duration::from_millis(100)),
            facts: facts(64),
            space: PoolSpace { total: pool, free: pool },
            image: Bytes(2 * Gib::BYTES),
            images: images::Cache::default(),
            domains: BTreeMap::new(),
            addresses: BTreeMap::new(),
            leases: BTreeMap::new(),
            overlays: BTreeSet::new(),
            seeds: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        Arc::new(Self {
            faults: Faults::default(),
            clock: Arc::default(),
            meter: Arc::default(),
            state: Mutex::new(state),
            events: broadcast::channel(1024).0,
            fetching: watch::Sender::default(),
        })
    }

    /// The ports of this host.
    #[must_use]
    pub fn ports(self: &Arc<Self>) -> Ports {
        Ports {
            hypervisor: self.clone(),
            events: self.clone(),
            network: self.clone(),
            storage: self.clone(),
            images: self.clone(),
            seeds: self.clone(),
            ledger: self.clone(),
            host: self.clone(),
            clock: self.clock.clone(),
            meter: self.meter.clone(),
        }
    }

    /// Changes how guests behave from now on.
    pub fn guests(&self, guest: Guest) {
        self.state().guest = guest;
    }

    /// Changes how many CPUs the host has.
    pub fn has_cpus(&self, cpus: u32) {
        self.state().facts.cpus = facts(cpus).cpus;
    }

    /// Changes the virtual size of all images.
    pub fn image_size(&self, size: Bytes) {
        self.state().image = size;
    }

    /// Holds a guest, as libvirt does at an I/O error.
    pub fn pause(&self, id: VmId, why: &'static str) {
        self.set_power(&mut self.state(), id, PowerState::Paused(why));
    }

    /// Kills a guest's QEMU.
    pub fn crash(&self, id: VmId) {
        self.set_power(&mut self.state(), id, PowerState::Crashed);
    }

    /// Lets a guest power itself off.
    pub fn guest_powers_off(&self, id: VmId) {
        self.set_power(&mut self.state(), id, PowerState::Off(OffCause::Guest));
    }

    /// Powers a domain on, as an operator does past the agent.
    pub fn power_on(&self, id: VmId) {
        self.set_power(&mut self.state(), id, PowerState::Running);
    }

    /// Removes a definition, as an operator does past the agent: a domain that runs goes on.
    pub fn undefine(&self, id: VmId) {
        let mut state = self.state();
        match state.domains.get_mut(&id) {
            Some(domain) if domain.power == PowerState::Running => {
                domain.definition = Definition::Transient;
            }
            Some(_) => drop(state.domains.remove(&id)),
            None => return,
        }
        self.tell(HypervisorEvent::Undefined(id));
    }

    /// Removes a VM's disk, as an operator does past the agent.
    pub fn remove_disk(&self, id: VmId) {
        self.state().overlays.remove(&id);
    }

    /// Loses a VM's record.
    pub fn lose_record(&self, id: VmId) {
        self.state().records.remove(&id);
    }

    /// Does late what a dead process asked for: a domain of the agent that is in no record.
    pub fn define_late(&self, id: VmId) {
        let record = VmRecord::creating(id, &super::samples::spec("late"), self.clock.now());
        let domain = FakeDomain {
            power: PowerState::Off(OffCause::Unknown),
            started: None,
            record,
            definition: Definition::Persistent,
        };
        self.state().domains.insert(id, domain);
        self.tell(HypervisorEvent::Power(id, PowerState::Off(OffCause::Unknown)));
    }

    /// Takes the host down and up again: no guest runs, definitions and volumes are there.
    pub fn reboot(&self) {
        let mut state = self.state();
        state.facts.boot = Uuid::from_u128(state.facts.boot.as_u128() + 1);
        for domain in state.domains.values_mut() {
            (domain.power, domain.started) = (PowerState::Off(OffCause::Unknown), None);
        }
        state.domains.retain(|_, domain| domain.definition == Definition::Persistent);
    }

    /// Everything that bears the mark of a VM, as text; empty if nothing is left.
    #[must_use]
    pub fn left(&self) -> Vec<String> {
        let state = self.state();
        let mut left: Vec<String> = state.domains.keys().map(|id| format!("domain {id}")).collect();
        left.extend(state.addresses.keys().map(|id| format!("address of {id}")));
        left.extend(state.overlays.iter().map(|id| format!("overlay of {id}")));
        left.extend(state.seeds.keys().map(|id| format!("seed of {id}")));
        left.extend(state.records.keys().map(|id| format!("record of {id}")));
        left
    }

    /// What the ledger holds of a VM.
    #[must_use]
    pub fn record(&self, id: VmId) -> Option<VmRecord> {
        self.state().records.get(&id).cloned()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_power(&self, state: &mut State, id: VmId, power: PowerState) {
        let Some(domain) = state.domains.get_mut(&id) else { return };
        if domain.power == power {
            return;
        }
        domain.started = (power == PowerState::Running).then(|| self.clock.monotonic());
        domain.power = power.clone();
        self.tell(HypervisorEvent::Power(id, power));
    }

    fn tell(&self, event: HypervisorEvent) {
        // Nobody listening is fine: events are not kept.
        drop(self.events.send(event));
    }
}
