//! The use cases on a host in memory.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod admission;
mod admission_on_threads;
mod contract;
mod control_plane;
mod control_plane_outages;
mod correlation;
mod faults;
mod hearing;
mod images;
mod interleaved;
mod logged;
mod measured;
mod reconcile;
mod rig;
mod said;
mod sequences;
mod vm_life;
mod watching;
