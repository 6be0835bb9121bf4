//! Domains: defining, powering, observing.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use async_trait::async_trait;

use super::PortResult;
use crate::domain::{Kept, Observed, VmId, VmRecord};

/// Everything that a domain is made of.
#[derive(Debug, Clone)]
pub struct DomainSpec {
    /// Whose domain it is. Kept in the domain's metadata, from which a lost record is made anew.
    pub record: VmRecord,
    /// Absolute path of the overlay, qcow2.
    pub disk: PathBuf,
    /// Absolute path of the seed, raw.
    pub seed: PathBuf,
    /// The only address that the guest may use.
    pub address: Ipv4Addr,
}

/// The hypervisor. It answers only about domains that the agent made, and changes no others.
#[async_trait]
pub trait Hypervisor: std::fmt::Debug + Send + Sync {
    /// Defines a domain, powered off; defining it again replaces the definition.
    async fn define(&self, spec: &DomainSpec) -> PortResult<()>;

    /// Powers the domain off if it runs and removes its definition and console log; nothing if
    /// there is none.
    async fn ensure_undefined(&self, id: VmId) -> PortResult<()>;

    /// Powers a defined domain on, or lets a held one go on; nothing if it runs.
    async fn ensure_started(&self, id: VmId) -> PortResult<()>;

    /// Asks the guest by ACPI to power off, and does not wait for it.
    async fn ask_to_power_off(&self, id: VmId) -> PortResult<()>;

    /// Cuts the power; nothing if it is off.
    async fn ensure_off(&self, id: VmId) -> PortResult<()>;

    /// All domains of the agent, in one call that never waits for a busy domain.
    async fn observe(&self) -> PortResult<Vec<Observed>>;

    /// What libvirt keeps of all domains of this agent: not of those that another one made.
    async fn kept(&self) -> PortResult<Vec<Kept>>;

    /// The last lines of the guest's serial console, at most `lines`; empty if there is none.
    async fn console_tail(&self, id: VmId, lines: usize) -> PortResult<String>;
}
