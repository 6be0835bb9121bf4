//! Which build this is.

use serde::Serialize;

use crate::cli::Global;
use crate::errors::{Exit, Failure};

/// `0.1.0 (commit 0123456789ab, x86_64-unknown-linux-gnu)`.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (commit ",
    env!("AGENTCTL_COMMIT"),
    ", ",
    env!("AGENTCTL_TARGET"),
    ")"
);

#[derive(Debug, Serialize)]
struct Version {
    version: &'static str,
    commit: &'static str,
    target: &'static str,
}

/// Prints version, commit and target.
pub(crate) fn run(global: &Global) -> Result<Exit, Failure> {
    let version = Version {
        version: env!("CARGO_PKG_VERSION"),
        commit: env!("AGENTCTL_COMMIT"),
        target: env!("AGENTCTL_TARGET"),
    };
    global.output.print(&version, |_| format!("agentctl {LONG}\n"))?;
    Ok(Exit::Done)
}
