//! The daemon: ghost-core's use cases behind gRPC, wired to libvirt and the host.
//!
//! [`config`] is what it is told, [`prepare`] what that points to, [`wiring`] puts the parts together, [`daemon`] runs them from
//! start to shutdown, [`grpc`] is the way in, [`identity`] what proves the agent, [`vpn`] a look at the VPN, [`observability`] the way to look at it; [`health`] how it is, told by [`http`] and to
//! the [`service_manager`].

pub mod config;
pub mod control_plane;
pub mod daemon;
pub mod debug;
#[cfg(feature = "failpoints")]
mod failpoints;
pub mod grpc;
pub mod health;
pub mod http;
pub mod identity;
pub mod observability;
mod own_process;
pub mod prepare;
pub mod service_manager;
pub mod vpn;
pub mod wiring;

/// Version, commit and target of this build.
pub const VERSION: &str = env!("GHOST_VERSION");
