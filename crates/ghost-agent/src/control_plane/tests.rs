//! Against a real server on loopback, over TLS.

pub(super) mod authority;
mod certificates;
mod circle;
mod server;
mod talk;
