//! What Ghost Agent knows and decides, free of I/O, runtime, transport and libvirt.
//!
//! * [`domain`]: entities that cannot be built invalid.
//! * [`ports`]: what the use cases need from the outside; implemented by `ghost-libvirt` and
//!   `ghost-host`, wired by `ghost-agent`.
//! * [`application`]: the use cases, one per file.
//! * `testing` (feature): the same ports in memory, with real state, failing on demand.

pub mod application;
pub mod domain;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;
