//! `ghost-core`'s hypervisor, events, network and storage, by libvirt.
//!
//! ```text
//!   ports ──▶ executor ──▶ worker threads, a connection each ──▶ libvirt
//!             (deadline, breaker)
//!   libvirt ──▶ event loop's thread ──▶ watch's thread ──▶ Events
//! ```
//!
//! Invariants: no call outlives its deadline for the caller; nothing that the agent did not make is ever
//! changed ([`libvirt`](Libvirt) reports only its own domains); all `unsafe` is in `sys`.
//!
//! Start with [`Libvirt::connect`]; end the process with [`leave`] after [`Libvirt::shutdown`].

pub mod acceleration;
mod backoff;
mod breaker;
mod connections;
mod console;
mod domain_xml;
mod executor;
mod facts;
mod failure;
mod hypervisor;
mod io_errors;
mod libvirt;
mod mark;
mod nat_network;
mod observer;
mod ours;
mod power;
mod preflight;
mod storage_pool;
#[expect(
    unsafe_code,
    reason = "libvirt is a C library; this module is the thin safe layer over it"
)]
mod sys;
mod threads;
mod tuning;
mod vitals;
mod watch;
mod xml;

pub use acceleration::{Acceleration, AccelerationChoice, Detected};
pub use facts::{DomainFacts, LibvirtFacts};
pub use failure::Outage;
pub use libvirt::{Libvirt, LibvirtConfig};
pub use observer::{CallObserver, CallOutcome};
pub use preflight::PART;
pub use sys::{leave, share_heaps};
pub use tuning::Tuning;
pub use vitals::{BreakerState, Enforcement, Policy, Vitals, Workers};
pub use watch::ConnectionState;
