//! How the agent is. Invariant: whoever asks reads a snapshot that is in memory, and waits for nothing; what hangs
//! makes one check old, which the check says, and no other.
//!
//! ```text
//! libvirt, disk, images ──looks, each for itself──┐
//! control plane, VPN, certificate, log, events ───┴─▶ facts ──decide──▶ verdicts ──history──▶ snapshot
//! ```

mod decide;
mod eyes;
mod history;
mod looks;
mod own;
mod pulse;
mod state_folder;
mod task;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use ghost_core::ports::Clock;
use jiff::Timestamp;
use tokio::sync::watch;

pub use pulse::{EVERY, Pulse};
pub use state_folder::{StateFolder, StateFolderLook};
pub use task::{HealthTask, LibvirtLook, Sources};
pub use verdict::State;

/// The latest snapshot, and each one that follows.
pub type HealthView = watch::Receiver<Arc<Health>>;

/// How the agent is, all in all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// All is well.
    Healthy,
    /// It works, and something is wrong.
    Degraded,
    /// VMs can't be commanded, or not all of what the agent is for.
    Unhealthy,
}

impl Status {
    /// As it is told: `healthy`, `degraded`, `unhealthy`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// The worst that the checks make of it.
    pub status: Status,
    /// Since when it is that.
    pub since: Timestamp,
    /// The agent's version.
    pub version: &'static str,
    /// When the agent was started.
    pub started_at: Timestamp,
    /// When this was put together.
    pub timestamp: Timestamp,
    /// Whether the agent takes commands now.
    pub ready: bool,
    /// Why it does not, in one line; empty if it does.
    pub not_ready_because: String,
    /// Each thing that is looked at, the worst first.
    pub checks: Vec<Check>,
    /// What the agent takes and what runs: `uptime_seconds`, `vms_running`, `vms_total`, `memory_mb` (10⁶ bytes resident),
    /// `cpu_percent` (of one CPU, since the last snapshot), `threads`.
    pub metrics: Vec<(&'static str, f64)>,
}

/// One thing that is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What, such as `libvirt`.
    pub name: &'static str,
    /// How it is.
    pub status: State,
    /// What is wrong, in one line; empty if nothing is.
    pub message: String,
    /// What to do about it, in the imperative; empty if nothing is wrong.
    pub remedy: String,
    /// Since when the status is that.
    pub since: Timestamp,
    /// When it was looked at last.
    pub checked_at: Timestamp,
}

impl Health {
    /// The worst check, if something is wrong.
    #[must_use]
    pub fn worst(&self) -> Option<&Check> {
        self.checks.first().filter(|check| check.status != State::Up)
    }

    /// One of [`Self::metrics`].
    #[must_use]
    pub fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    fn starting(started_at: Timestamp) -> Self {
        let why = "the agent is starting";
        let check = Check {
            name: "start",
            status: State::Down,
            message: why.to_owned(),
            remedy: "wait some seconds; if it stays so, read its log: journalctl -u ghost-agent"
                .to_owned(),
            since: started_at,
            checked_at: started_at,
        };
        Self {
            status: Status::Unhealthy,
            since: started_at,
            version: crate::VERSION,
            started_at,
            timestamp: started_at,
            ready: false,
            not_ready_because: why.to_owned(),
            checks: vec![check],
            metrics: Vec::new(),
        }
    }
}

/// The agent's begin: what is told until there is something to look at.
#[derive(Debug)]
pub struct Beginning {
    told: watch::Sender<Arc<Health>>,
    started_at: Timestamp,
    /// Since the host's boot.
    started: Duration,
}

impl Beginning {
    /// Tells that the agent is starting.
    #[must_use]
    pub fn new(clock: &dyn Clock) -> (Self, HealthView) {
        let (started_at, started) = (clock.now(), clock.since_boot());
        let (told, view) = watch::channel(Arc::new(Health::starting(started_at)));
        (Self { told, started_at, started }, view)
    }
}
