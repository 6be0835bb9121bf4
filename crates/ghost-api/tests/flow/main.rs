//! The real server on loopback, real TLS, a store on disk, and a clock that tests set.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod agent;
mod api;
mod certificates;
mod commands;
mod correlation;
mod enrolment;
mod events;
mod fake_host;
mod monitoring;
mod presence;
mod program;
mod restart;
mod trouble;
