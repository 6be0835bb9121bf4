//! The daemon: ghost-core's use cases behind gRPC, wired to libvirt and the host.
//!
//! [`config`] is what it is told, [`prepare`] what that points to, [`wiring`] puts the parts together, [`daemon`] runs them from
//! start to shutdown, [`grpc`] is the way in, [`identity`] what proves the agent, [`vpn`] a look at the VPN, [`observability`] the way to look at it.

pub mod config;
pub mod control_plane;
pub mod daemon;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod grpc;
pub mod identity;
pub mod observability;
pub mod prepare;
pub mod vpn;
pub mod wiring;

/// Version, commit and target of this build.
pub const VERSION: &str = env!("GHOST_VERSION");
