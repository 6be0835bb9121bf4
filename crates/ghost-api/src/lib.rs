//! The reference control plane of a Ghost cloud.
//!
//! ```text
//! agents ──mTLS──▶ grpc::agents ─┐                        ┌▶ store     what outlives the process
//! operator ─socket▶ grpc::admin ─┼▶ plane (use cases) ────┼▶ roster    who is there, in memory
//! monitoring ─────▶ http ────────┘        │               └▶ authority certificates
//!                                         └▶ commander ──mTLS──▶ agents
//! ```

pub mod authority;
pub mod clock;
pub mod commander;
pub mod counters;
pub mod domain;
pub mod grpc;
pub mod http;
pub mod limits;
pub mod plane;
pub mod refusal;
pub mod roster;
pub mod serve;
pub mod store;
