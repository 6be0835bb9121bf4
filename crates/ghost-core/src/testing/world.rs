//! A host in memory. It behaves as libvirt does: calls are idempotent where the ports say so,
//! power changes are told as events, a guest takes its lease some time after it was started.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use tokio::sync::broadcast;

use super::clock::FakeClock;
use super::faults::Faults;
use crate::domain::{
    AppError, BaseImage, Bytes, ErrorKind, Gib, Observed, PowerState, Template, VmId, VmName,
    VmRecord,
};
use crate::ports::{
    Clock, DomainSpec, Events, Host, HostFacts, Hypervisor, HypervisorEvent, Images, Lease,
    Network, PoolSpace, PortResult, Ports, SeedSpec, Seeds, Storage, VmLedger,
};

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
}

#[derive(Debug)]
struct State {
    guest: Guest,
    facts: HostFacts,
    space: PoolSpace,
    image: Bytes,
    domains: BTreeMap<VmId, FakeDomain>,
    addresses: BTreeMap<VmId, Ipv4Addr>,
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
    state: Mutex<State>,
    events: broadcast::Sender<HypervisorEvent>,
}

impl World {
    /// 64 CPUs, 256 GiB, a pool of 10 TiB, an image of 2 GiB, guests that boot in 0.1 s.
    #[must_use]
    pub fn new() -> Arc<Self> {
        let pool = Bytes(10_240 * Gib::BYTES);
        let state = State {
            guest: Guest::Boots(Duration::from_millis(100)),
            facts: HostFacts { cpus: 64, ram: Bytes(256 * Gib::BYTES) },
            space: PoolSpace { total: pool, free: pool },
            image: Bytes(2 * Gib::BYTES),
            domains: BTreeMap::new(),
            addresses: BTreeMap::new(),
            overlays: BTreeSet::new(),
            seeds: BTreeMap::new(),
            records: BTreeMap::new(),
        };
        Arc::new(Self {
            faults: Faults::default(),
            clock: Arc::default(),
            state: Mutex::new(state),
            events: broadcast::channel(1024).0,
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
        }
    }

    /// Changes how guests behave from now on.
    pub fn guests(&self, guest: Guest) {
        self.state().guest = guest;
    }

    /// Changes what the host has.
    pub fn has(&self, facts: HostFacts) {
        self.state().facts = facts;
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

fn no_domain(id: VmId) -> AppError {
    AppError::new(ErrorKind::HypervisorFailed, format!("there is no domain {id}"))
}

#[async_trait]
impl Hypervisor for World {
    async fn define(&self, spec: &DomainSpec) -> PortResult<()> {
        let work = || {
            let off = FakeDomain { power: PowerState::Off, started: None };
            self.state().domains.entry(spec.id).or_insert(off);
            Ok(())
        };
        self.faults.call("define", work).await
    }

    async fn ensure_undefined(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            self.set_power(&mut state, id, PowerState::Off);
            if state.domains.remove(&id).is_some() {
                self.tell(HypervisorEvent::Undefined(id));
            }
            Ok(())
        };
        self.faults.call("ensure_undefined", work).await
    }

    async fn ensure_started(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            let complete = state.overlays.contains(&id) && state.seeds.contains_key(&id);
            if !state.domains.contains_key(&id) || !complete {
                return Err(no_domain(id));
            }
            self.set_power(&mut state, id, PowerState::Running);
            Ok(())
        };
        self.faults.call("ensure_started", work).await
    }

    async fn ask_to_power_off(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            let domain = state.domains.get(&id).ok_or_else(|| no_domain(id))?;
            if domain.power == PowerState::Running
                && !matches!(state.guest, Guest::IgnoresPowerOff(_))
            {
                self.set_power(&mut state, id, PowerState::Off);
            }
            Ok(())
        };
        self.faults.call("ask_to_power_off", work).await
    }

    async fn ensure_off(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            if !state.domains.contains_key(&id) {
                return Err(no_domain(id));
            }
            self.set_power(&mut state, id, PowerState::Off);
            Ok(())
        };
        self.faults.call("ensure_off", work).await
    }

    async fn observe(&self) -> PortResult<Vec<Observed>> {
        let work = || {
            let now = self.clock.monotonic();
            let observed = |(id, domain): (&VmId, &FakeDomain)| Observed {
                id: *id,
                power: domain.power.clone(),
                // A guest that uses half a CPU.
                cpu_time: domain.started.map_or(Duration::ZERO, |at| (now - at) / 2),
                ram_used: domain.started.map(|_| Gib::BYTES / 4),
            };
            Ok(self.state().domains.iter().map(observed).collect())
        };
        self.faults.call("observe", work).await
    }

    async fn console_tail(&self, _id: VmId, _lines: usize) -> PortResult<String> {
        self.faults.call("console_tail", || Ok("no carrier".to_owned())).await
    }
}

impl Events for World {
    fn subscribe(&self) -> broadcast::Receiver<HypervisorEvent> {
        self.events.subscribe()
    }
}

#[async_trait]
impl Network for World {
    async fn assign_address(&self, id: VmId, _name: &VmName) -> PortResult<Ipv4Addr> {
        let work = || {
            let mut state = self.state();
            if let Some(address) = state.addresses.get(&id) {
                return Ok(*address);
            }
            let free = (2..=254).map(|last| Ipv4Addr::new(192, 168, 122, last));
            let free = free.into_iter().find(|a| !state.addresses.values().any(|taken| taken == a));
            let free =
                free.ok_or_else(|| AppError::new(ErrorKind::ResourceLimit, "no address is free"))?;
            state.addresses.insert(id, free);
            Ok(free)
        };
        self.faults.call("assign_address", work).await
    }

    async fn release_address(&self, id: VmId) -> PortResult<()> {
        let work = || {
            self.state().addresses.remove(&id);
            Ok(())
        };
        self.faults.call("release_address", work).await
    }

    async fn lease(&self, id: VmId) -> PortResult<Option<Lease>> {
        let work = || {
            let state = self.state();
            let boot = match state.guest {
                Guest::Boots(time) | Guest::IgnoresPowerOff(time) => time,
                Guest::TakesNoAddress => return Ok(None),
            };
            let up = state
                .domains
                .get(&id)
                .and_then(|d| d.started)
                .map(|at| self.clock.monotonic() - at);
            let leased = up.and_then(|up| up.checked_sub(boot));
            Ok(leased.zip(state.addresses.get(&id)).map(|(ago, address)| {
                let ago = SignedDuration::try_from(ago).unwrap_or_default();
                let expires_at = self.clock.now() - ago + SignedDuration::from_hours(1);
                Lease { address: *address, expires_at }
            }))
        };
        self.faults.call("lease", work).await
    }
}

#[async_trait]
impl Storage for World {
    async fn create_overlay(&self, id: VmId, _base: &BaseImage, _size: Gib) -> PortResult<PathBuf> {
        let work = || {
            self.state().overlays.insert(id);
            Ok(PathBuf::from(format!("/pool/ghost-{id}.qcow2")))
        };
        self.faults.call("create_overlay", work).await
    }

    async fn ensure_no_overlay(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            if state.domains.get(&id).is_some_and(|d| d.power != PowerState::Off) {
                return Err(AppError::new(
                    ErrorKind::Internal,
                    "the disk of a running domain was removed",
                ));
            }
            state.overlays.remove(&id);
            Ok(())
        };
        self.faults.call("ensure_no_overlay", work).await
    }

    async fn store_seed(&self, id: VmId, seed: &[u8]) -> PortResult<PathBuf> {
        let work = || {
            self.state().seeds.insert(id, seed.to_vec());
            Ok(PathBuf::from(format!("/pool/ghost-{id}-seed.iso")))
        };
        self.faults.call("store_seed", work).await
    }

    async fn ensure_no_seed(&self, id: VmId) -> PortResult<()> {
        let work = || {
            self.state().seeds.remove(&id);
            Ok(())
        };
        self.faults.call("ensure_no_seed", work).await
    }

    async fn space(&self) -> PortResult<PoolSpace> {
        self.faults.call("space", || Ok(self.state().space)).await
    }
}

#[async_trait]
impl Images for World {
    async fn ensure_cached(&self, template: &Template) -> PortResult<BaseImage> {
        let work = || {
            Ok(BaseImage {
                path: PathBuf::from("/images/base.qcow2"),
                checksum: template.checksum.clone(),
                virtual_size: self.state().image,
            })
        };
        self.faults.call("ensure_cached", work).await
    }
}

impl Seeds for World {
    fn build(&self, spec: &SeedSpec) -> PortResult<Vec<u8>> {
        Ok(spec.name.as_str().as_bytes().to_vec())
    }
}

#[async_trait]
impl VmLedger for World {
    async fn load(&self) -> PortResult<Vec<VmRecord>> {
        self.faults.call("load", || Ok(self.state().records.values().cloned().collect())).await
    }

    async fn save(&self, record: &VmRecord) -> PortResult<()> {
        let work = || {
            self.state().records.insert(record.id, record.clone());
            Ok(())
        };
        self.faults.call("save", work).await
    }

    async fn ensure_removed(&self, id: VmId) -> PortResult<()> {
        let work = || {
            self.state().records.remove(&id);
            Ok(())
        };
        self.faults.call("ensure_removed", work).await
    }
}

#[async_trait]
impl Host for World {
    async fn facts(&self) -> PortResult<HostFacts> {
        self.faults.call("facts", || Ok(self.state().facts)).await
    }
}
