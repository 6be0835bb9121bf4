//! The ports of the host in memory: each call can be made to fail, and does what libvirt would.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use jiff::SignedDuration;
use tokio::sync::broadcast;

use super::{FakeDomain, Guest, World};
use crate::domain::{
    AppError, BaseImage, Definition, ErrorKind, Gib, Kept, Observed, OffCause, PowerState, Traffic,
    VmId, VmName, VmRecord,
};
use crate::ports::{
    Clock, DomainSpec, Events, FoundVolumes, Host, HostFacts, Hypervisor, HypervisorEvent, Lease,
    Network, PoolSpace, PortResult, SeedSpec, Seeds, Storage, VmLedger,
};

fn no_domain(id: VmId) -> AppError {
    AppError::new(ErrorKind::HypervisorFailed, format!("there is no domain {id}"))
}

fn overlay_path(id: VmId) -> PathBuf {
    PathBuf::from(format!("/pool/ghost-{id}.qcow2"))
}

fn seed_path(id: VmId) -> PathBuf {
    PathBuf::from(format!("/pool/ghost-{id}-seed.iso"))
}

#[async_trait]
impl Hypervisor for World {
    async fn define(&self, spec: &DomainSpec) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            let off = FakeDomain {
                power: PowerState::Off(OffCause::Unknown),
                started: None,
                record: spec.record.clone(),
                definition: Definition::Persistent,
            };
            let domain = state.domains.entry(spec.record.id).or_insert(off);
            (domain.record, domain.definition) = (spec.record.clone(), Definition::Persistent);
            Ok(())
        };
        self.faults.call("define", work).await
    }

    async fn ensure_undefined(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            self.set_power(&mut state, id, PowerState::Off(OffCause::Cut));
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
                self.set_power(&mut state, id, PowerState::Off(OffCause::Guest));
            }
            Ok(())
        };
        self.faults.call("ask_to_power_off", work).await
    }

    async fn ensure_off(&self, id: VmId) -> PortResult<()> {
        let work = || {
            self.set_power(&mut self.state(), id, PowerState::Off(OffCause::Cut));
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
                traffic: Traffic::default(),
            };
            Ok(self.state().domains.iter().map(observed).collect())
        };
        self.faults.call("observe", work).await
    }

    async fn kept(&self) -> PortResult<Vec<Kept>> {
        let kept = |(id, domain): (&VmId, &FakeDomain)| Kept {
            id: *id,
            record: Some(domain.record.clone()),
            definition: domain.definition,
        };
        let work = || Ok(self.state().domains.iter().map(kept).collect());
        self.faults.call("kept", work).await
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
            let mut state = self.state();
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
            let fresh = leased.zip(state.addresses.get(&id)).map(|(ago, address)| {
                let ago = SignedDuration::try_from(ago).unwrap_or_default();
                let expires_at = self.clock.now() - ago + SignedDuration::from_hours(1);
                Lease { address: *address, expires_at }
            });
            // A DHCP server remembers the lease of a guest that is off.
            if let Some(lease) = fresh {
                state.leases.insert(id, lease);
            }
            Ok(state.leases.get(&id).copied())
        };
        self.faults.call("lease", work).await
    }
}

#[async_trait]
impl Storage for World {
    async fn create_overlay(&self, id: VmId, _base: &BaseImage, _size: Gib) -> PortResult<PathBuf> {
        let work = || {
            self.state().overlays.insert(id);
            Ok(overlay_path(id))
        };
        self.faults.call("create_overlay", work).await
    }

    async fn ensure_no_overlay(&self, id: VmId) -> PortResult<()> {
        let work = || {
            let mut state = self.state();
            if state.domains.get(&id).is_some_and(|d| d.power == PowerState::Running) {
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
            Ok(seed_path(id))
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

    async fn find(&self, id: VmId) -> PortResult<FoundVolumes> {
        let work = || {
            let state = self.state();
            let disk = state.overlays.contains(&id).then(|| overlay_path(id));
            let seed = state.seeds.contains_key(&id).then(|| seed_path(id));
            Ok(FoundVolumes { disk, seed })
        };
        self.faults.call("find", work).await
    }

    async fn space(&self) -> PortResult<PoolSpace> {
        self.faults.call("space", || Ok(self.state().space)).await
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
        self.faults.call("facts", || Ok(self.state().facts.clone())).await
    }
}
