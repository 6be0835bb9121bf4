//! What one look comes to. Invariant: what is wrong has a message and a remedy.

use super::Status;

/// How one thing is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// All is well with it.
    Up,
    /// It works, and something is wrong.
    Degraded,
    /// It does not work.
    Down,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Up, Self::Degraded, Self::Down];

    /// As it is told: `up`, `degraded`, `down`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Down => "down",
        }
    }
}

/// What is looked at, in the order in which people want to read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    Libvirt,
    Ledger,
    StoragePool,
    Network,
    NetworkFilter,
    Api,
    Vpn,
    Certificate,
    Images,
    Events,
    Log,
    Acceleration,
}

impl Subject {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt",
            Self::Ledger => "ledger",
            Self::StoragePool => "storage_pool",
            Self::Network => "network",
            Self::NetworkFilter => "network_filter",
            Self::Api => "api",
            Self::Vpn => "vpn",
            Self::Certificate => "certificate",
            Self::Images => "images",
            Self::Events => "events",
            Self::Log => "log",
            Self::Acceleration => "acceleration",
        }
    }

    /// What the agent is when this is in that state. Without the first five no VM can be made; without the others it can, so that
    /// whoever watches need not act on guests.
    pub(super) const fn makes(self, state: State) -> Status {
        match (state, self) {
            (State::Up, _) => Status::Healthy,
            (State::Degraded, _) => Status::Degraded,
            (
                State::Down,
                Self::Libvirt
                | Self::Ledger
                | Self::StoragePool
                | Self::Network
                | Self::NetworkFilter,
            ) => Status::Unhealthy,
            (
                State::Down,
                Self::Api
                | Self::Vpn
                | Self::Certificate
                | Self::Images
                | Self::Events
                | Self::Log
                | Self::Acceleration,
            ) => Status::Degraded,
        }
    }
}

/// How something is, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) state: State,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl Verdict {
    pub(super) const UP: Self =
        Self { state: State::Up, message: String::new(), remedy: String::new() };

    /// Nothing is wrong, as far as is known.
    pub(super) fn up_but(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::UP }
    }

    pub(super) fn degraded(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Degraded, message: message.into(), remedy: remedy.into() }
    }

    pub(super) fn down(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Down, message: message.into(), remedy: remedy.into() }
    }
}
