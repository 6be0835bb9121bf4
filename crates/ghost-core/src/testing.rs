//! The ports in memory, with real state, failing on demand; and the contract that they and the
//! real adapters are held to, so that the fakes cannot drift from the truth.

pub mod clock;
pub mod contract;
pub mod control_plane;
pub mod event_queue;
pub mod faults;
pub mod meter;
pub mod samples;
pub mod world;

pub use clock::FakeClock;
pub use control_plane::{Conduct, FakeControlPlane};
pub use event_queue::MemoryQueue;
pub use faults::{FaultMoment, Faults};
pub use meter::MemoryMeter;
pub use world::{Guest, World};
