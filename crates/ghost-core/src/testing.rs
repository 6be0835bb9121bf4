//! The ports in memory, with real state, failing on demand; and the contract that they and the
//! real adapters are held to, so that the fakes cannot drift from the truth.

pub mod clock;
pub mod contract;
pub mod faults;
pub mod samples;
pub mod world;

pub use clock::FakeClock;
pub use faults::{FaultMoment, Faults};
pub use world::{Guest, World};
