//! The harness of the end-to-end tests: a real agent ([`agent`]) in its [`home`], its command line
//! ([`ctl`]), its API ([`client`]) and health ([`web`]), a guest's console ([`console`]), a libvirtd that may be harmed
//! ([`lab`]), networks around the host ([`nets`]), a host with systemd ([`systemd_host`]) and a VPN ([`tailscaled`]), an agent that dies or holds where it is told to ([`failpoint`]), and what agents left
//! behind ([`leaks`]).
//!
//! `./dev test` builds the binaries and the guest and says where they are:
//! `GHOST_E2E_AGENT`, `GHOST_E2E_AGENTCTL` (programs), `GHOST_E2E_GUEST` (ghost-mini's image), and with
//! `--full` `GHOST_E2E_DEBIAN12`.

pub mod agent;
pub mod certs;
pub mod client;
pub mod console;
pub mod ctl;
pub mod failpoint;
pub mod home;
pub mod host;
pub mod image;
pub mod lab;
pub mod leaks;
pub mod libvirt;
pub mod nets;
pub mod plane;
mod processes;
pub mod prometheus;
pub mod publisher;
mod root;
pub mod systemd_host;
pub mod tailscaled;
pub mod wait;
pub mod web;

use std::path::PathBuf;

use anyhow::Context as _;

/// The path that `./dev test` put into that variable.
///
/// # Errors
/// If it did not.
pub fn path_from(variable: &str) -> anyhow::Result<PathBuf> {
    std::env::var_os(variable)
        .map(PathBuf::from)
        .with_context(|| format!("{variable} is not set; run the tests with: ./dev test"))
}

/// How often each death of the agent is staged: `GHOST_E2E_ROUNDS`, or once.
#[must_use]
pub fn rounds() -> u32 {
    std::env::var("GHOST_E2E_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}
