//! What the hypervisor tells unasked.

use tokio::sync::broadcast;

use crate::domain::{PowerState, VmId};

/// A change on the hypervisor's side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HypervisorEvent {
    /// A domain's power changed.
    Power(VmId, PowerState),
    /// A domain was undefined.
    Undefined(VmId),
    /// A (new) connection is up and its events are registered; everything may have changed.
    Connected,
    /// The connection was lost; the text is libvirt's reason.
    Disconnected(String),
}

/// The stream of [`HypervisorEvent`]s.
pub trait Events: std::fmt::Debug + Send + Sync {
    /// Everything from now on. A receiver that lags must resync from
    /// [`Hypervisor::observe`](super::Hypervisor::observe).
    fn subscribe(&self) -> broadcast::Receiver<HypervisorEvent>;
}
