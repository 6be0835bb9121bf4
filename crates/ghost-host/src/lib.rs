//! `ghost-core`'s ports that need nothing but files, the clock and a download.
//!
//! * [`clock`]: the system's clock.
//! * [`host_resources`]: what the host has, read from `/proc` and `/sys`.
//! * [`ledger_dir`]: the VMs' records, one JSON file each.
//! * [`agent_state`]: the agent's id and a summary for people.
//! * [`event_queue`]: what the control plane has not heard of yet.
//! * [`seed`]: cloud-init's NoCloud seed, an ISO 9660 image.
//! * [`image_cache`]: base images, downloaded once and proven.
//! * [`tailscale`]: the VPN's client, asked over its unix socket.
//! * [`catalog`]: the owner's list of templates.
//! * [`publisher`]: where the distributions publish their images, and how those are proven.

pub mod agent_state;
mod atomic_file;
pub mod catalog;
pub mod clock;
pub mod disk_error;
pub mod event_queue;
pub mod host_resources;
pub mod image_cache;
pub mod ledger_dir;
pub mod publisher;
pub mod seed;
pub mod tailscale;

pub use agent_state::{AgentState, AgentStateFile};
pub use catalog::{CatalogError, built_in_catalog, read_catalog};
pub use clock::SystemClock;
pub use disk_error::DiskError;
pub use event_queue::EventDir;
pub use host_resources::ProcHost;
pub use image_cache::{
    Downloads, ImageCache, ImageError, Limits, OpenError, Pace, RedirectTrouble,
};
pub use ledger_dir::{LedgerDir, LedgerError};
pub use seed::NoCloudSeed;
pub use tailscale::{Tailscale, TailscaleError};
