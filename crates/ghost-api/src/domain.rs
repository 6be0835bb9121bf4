//! What is decided, without I/O. Invariant: every decision is a function of what is known and of the
//! time it is given; nothing here reads a clock or a file.

pub mod agent;
pub mod audit;
pub mod csr;
pub mod event;
pub mod placement;
pub mod presence;
pub mod registration;
pub mod text;
pub mod token;

pub use agent::{AgentId, AgentRecord, Heard, Said};
pub use event::VmEvent;
pub use registration::{Amount, Capacity, Registration};
