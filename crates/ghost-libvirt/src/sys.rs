//! A thin safe layer over libvirt's C library: the only place with `unsafe`.
//!
//! Invariant: every handle owns exactly one reference of libvirt's and gives it back when it is
//! dropped; every list that libvirt allocates is freed here; a failed call leaves as a
//! [`LibvirtError`], never as a panic or as text on stderr. libvirt's objects may be shared by
//! threads (libvirt, "Internals: threading"); only its last error is per thread, so it is read at
//! once, by the thread that made the call.

mod conn;
mod domain;
mod error;
pub(crate) mod event_loop;
mod handle;
mod heaps;
mod leave;
mod network;
mod notify;
mod stats;
mod storage;
mod tune;

pub(crate) use conn::{Conn, library_version};
pub(crate) use domain::{Domain, DomainState, MetadataOf};
pub(crate) use error::LibvirtError;
pub use heaps::share_heaps;
pub use leave::leave;
pub(crate) use network::{DhcpLease, HostUpdate, Network, NetworkXml, Reach};
pub(crate) use notify::{DomainEvent, IoErrorEvent, LIBVIRTD_HANGS, LifecycleEvent, Subscription};
pub(crate) use stats::{DiskStats, DomainStats, NetStats};
pub(crate) use storage::{Pool, Volume};
pub(crate) use tune::{CpuMap, Direction, Tuned};
