//! Addresses. An address is reserved before the guest boots and stays the VM's for life.

use std::net::Ipv4Addr;

use async_trait::async_trait;
use jiff::Timestamp;

use super::PortResult;
use crate::domain::{VmId, VmName};

/// A DHCP lease that a guest holds or held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The leased address.
    pub address: Ipv4Addr,
    /// When it ends; each renewal moves it.
    pub expires_at: Timestamp,
}

/// The network that VMs are attached to.
#[async_trait]
pub trait Network: std::fmt::Debug + Send + Sync {
    /// Reserves a free address for the VM; the same one if it has one already.
    async fn assign_address(&self, id: VmId, name: &VmName) -> PortResult<Ipv4Addr>;

    /// Gives the VM's address back; nothing if it has none.
    async fn release_address(&self, id: VmId) -> PortResult<()>;

    /// The newest lease of the VM's network card; `None` if it never asked for one.
    async fn lease(&self, id: VmId) -> PortResult<Option<Lease>>;
}
