//! The harness of the end-to-end tests: a real agent ([`agent`]), its command line ([`ctl`]), its
//! API ([`client`]), a guest's console ([`console`]), and what is on the host before and after ([`host`]).
//!
//! `./dev test` builds the binaries and the guest and says where they are:
//! `GHOST_E2E_AGENT`, `GHOST_E2E_AGENTCTL` (programs), `GHOST_E2E_GUEST` (ghost-mini's image), and with
//! `--full` `GHOST_E2E_DEBIAN12`.

pub mod agent;
pub mod certs;
pub mod client;
pub mod console;
pub mod ctl;
pub mod host;

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
