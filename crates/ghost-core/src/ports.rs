//! What the use cases need from the outside. Every method ends: adapters set a deadline on each
//! call they make. Methods named `ensure_…` are idempotent.

pub mod clock;
pub mod control_plane;
pub mod event_queue;
pub mod events;
pub mod host;
pub mod hypervisor;
pub mod images;
pub mod meter;
pub mod network;
pub mod seeds;
pub mod storage;
pub mod vm_ledger;
pub mod vpn;

use std::sync::Arc;

pub use clock::Clock;
pub use control_plane::{ControlPlane, ControlResult, SelfKnowledge, call_span};
pub use event_queue::{EventQueue, LastTold, Memory, NewEvent};
pub use events::{Events, HypervisorEvent};
pub use host::{Host, HostFacts};
pub use hypervisor::{DomainSpec, Hypervisor};
pub use images::Images;
pub use meter::{CreateStep, Measured, Meter, Outcome};
pub use network::{Lease, Network};
pub use seeds::{SeedSpec, Seeds};
pub use storage::{FoundVolumes, PoolSpace, Storage};
pub use vm_ledger::VmLedger;
pub use vpn::Vpn;

use crate::domain::{AppError, BootMoment};

/// The result of a port's method.
pub type PortResult<T> = Result<T, AppError>;

/// All ports, shared by all use cases.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented by its trait")]
pub struct Ports {
    pub hypervisor: Arc<dyn Hypervisor>,
    pub events: Arc<dyn Events>,
    pub network: Arc<dyn Network>,
    pub storage: Arc<dyn Storage>,
    pub images: Arc<dyn Images>,
    pub seeds: Arc<dyn Seeds>,
    pub ledger: Arc<dyn VmLedger>,
    pub host: Arc<dyn Host>,
    pub clock: Arc<dyn Clock>,
    pub meter: Arc<dyn Meter>,
}

impl Ports {
    /// Now, as a moment that a jump of the wall clock does not move.
    ///
    /// # Errors
    /// The host's.
    pub async fn boot_moment(&self) -> PortResult<BootMoment> {
        let boot = self.host.facts().await?.boot;
        Ok(BootMoment { boot, elapsed: self.clock.since_boot() })
    }
}
