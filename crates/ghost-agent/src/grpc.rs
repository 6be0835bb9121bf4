//! The gRPC side of the daemon: who may call ([`access`]), over what ([`listen`], [`tls`]), and
//! how a call becomes a use case and its result an answer ([`service`], [`convert`], [`status`]).

pub mod access;
pub mod call;
pub mod convert;
pub mod doors;
mod edge;
mod images;
pub mod listen;
pub mod operations;
pub mod quotas;
pub mod san;
pub mod server;
pub mod service;
pub mod status;
pub mod tls;
pub mod unix;

pub use access::Caller;
pub use listen::Listeners;
pub use service::{About, AgentApi};
