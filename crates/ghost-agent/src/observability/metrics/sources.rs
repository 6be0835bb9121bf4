//! What metrics are read from. Invariant: each source answers from memory: a scrape waits neither for libvirt nor for
//! a disk or the network.

use std::fmt;
use std::sync::Arc;

use ghost_core::application::{LinkState, NodeQuery, Registry};
use ghost_core::domain::{Bytes, Fetching};
use ghost_core::ports::Clock;
use ghost_host::Downloads;
use ghost_libvirt::Vitals;
use jiff::Timestamp;
use tokio::sync::watch;

use super::images::CacheSize;
use crate::config::LogLevel;
use crate::health::HealthView;

/// Something that is looked at anew for each scrape. It must not block.
pub type Look<T> = Arc<dyn Fn() -> T + Send + Sync>;

/// All of them.
#[derive(Clone)]
pub struct Sources {
    /// The VMs.
    pub registry: Arc<Registry>,
    /// The host's resources.
    pub node: Arc<NodeQuery>,
    /// Tells how old what is known is.
    pub clock: Arc<dyn Clock>,
    /// `kvm` or `tcg`.
    pub acceleration: &'static str,
    /// How libvirt is; `None` when it was closed.
    pub libvirt: Look<Option<Vitals>>,
    /// What the image cache takes; `None` while that is not known. See [`super::images::follow`].
    pub images: watch::Receiver<Option<CacheSize>>,
    /// What it may take (`images.cache_limit_gb`).
    pub cache_limit: Option<Bytes>,
    /// The fetches under way.
    pub fetching: watch::Receiver<Vec<Fetching>>,
    /// What was fetched.
    pub downloads: Arc<Downloads>,
    /// The link to the control plane; `None` without `agent.api_url`.
    pub link: Option<watch::Receiver<LinkState>>,
    /// How many events the control plane has not acknowledged.
    pub waiting_events: Look<usize>,
    /// The last second of the certificate in force, if there is one.
    pub certificate_end: Look<Option<Timestamp>>,
    /// How the agent is.
    pub health: HealthView,
    /// What was logged.
    pub logs: Look<LogCounts>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").field("acceleration", &self.acceleration).finish_non_exhaustive()
    }
}

/// What was logged since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogCounts {
    /// Lines by level.
    pub lines: [(LogLevel, u64); 4],
    /// Lines that were lost.
    pub dropped: u64,
}
