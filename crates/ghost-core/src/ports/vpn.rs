//! The VPN that the control plane and the operators come through.

use async_trait::async_trait;

use super::PortResult;
use crate::domain::VpnStatus;

/// The VPN's client on this host.
#[async_trait]
pub trait Vpn: std::fmt::Debug + Send + Sync {
    /// What it is now. That it is not installed is an answer and no failure.
    ///
    /// # Errors
    /// `NETWORK_ERROR` if it does not answer, or nothing that can be understood.
    async fn status(&self) -> PortResult<VpnStatus>;
}
