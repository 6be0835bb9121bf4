//! How callers come in, to an agent and to the reference control plane alike. Invariant: who stalls or crowds holds up nobody else,
//! and no stranger fills a log.
//!
//! [`accept`] takes the next connection, [`Handshakes`] bounds what is not proven yet, [`Connection`] knows its caller, its place and
//! its end, [`Sparing`] keeps warnings that a stranger can cause few; [`http`] serves pages to whoever watches. Who may come in, and
//! how many, is the server's to say.

mod accept;
mod connection;
mod handshakes;
pub mod http;
mod sparing;

pub use accept::accept;
pub use connection::{Connection, Io};
pub use handshakes::{Handshake, Handshakes, Shares};
pub use sparing::Sparing;
