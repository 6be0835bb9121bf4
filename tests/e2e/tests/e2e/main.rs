//! A real agent, real libvirt, real guests. What a test leaves behind fails it (`ghost_e2e::leaks`).
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod access;
mod bad_host;
mod bad_input;
mod correlation;
mod debug;
mod full_debian12;
mod guest;
mod health;
mod images;
mod life;
mod logs;
mod owner;
mod plane;
mod prometheus;
mod shutdown;
mod systemd;
