//! The doors: agents over TCP and TLS 1.3, operators over a unix socket.

mod admin;
mod agents;
pub(crate) mod call;
mod caller;
mod convert;
mod listen;
pub mod server;
pub mod status;
pub mod tls;
pub mod unix;
