//! The real `agentctl` binary against an agent that runs in this process and speaks the real wire
//! contract, over a unix socket and over mutual TLS.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod certs;
mod correlation;
mod debug;
mod fake_agent;
mod faults;
mod image;
mod local;
mod log_level;
mod node;
mod run;
mod running;
mod status;
mod terminal;
mod tls;
mod top;
mod vm;
mod watch;
