//! How libvirt and what calls it are, at one moment. Invariant: read from memory, so it waits for nobody.

/// What the circuit breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls.
    Closed,
    /// None: libvirt is away.
    Open,
    /// One, to find out whether it is back.
    Probing,
}

impl BreakerState {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::Open, Self::Probing];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::Probing => "probing",
        }
    }
}

/// The threads that call libvirt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Workers {
    /// They wait for a call.
    pub idle: usize,
    /// They make one.
    pub busy: usize,
    /// They make one that was given up.
    pub hung: usize,
}

/// Something that guests are held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// The filter that holds each guest to its own MAC and IP address.
    NetworkFilter,
    /// Guests run on the CPUs that the owner does not keep.
    CpuPinning,
    /// Guests weigh less than the owner's processes where CPU time is short.
    CpuWeight,
    /// Guests weigh less than the owner's processes where the disks are busy.
    IoWeight,
    /// What QEMU may take of memory is bounded.
    MemoryLimit,
    /// What a guest may read and write is bounded.
    DiskLimit,
    /// What a guest may send and receive is bounded.
    NetworkLimit,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::NetworkFilter,
        Self::CpuPinning,
        Self::CpuWeight,
        Self::IoWeight,
        Self::MemoryLimit,
        Self::DiskLimit,
        Self::NetworkLimit,
    ];

    /// Its name in metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NetworkFilter => "network_filter",
            Self::CpuPinning => "cpu_pinning",
            Self::CpuWeight => "cpu_weight",
            Self::IoWeight => "io_weight",
            Self::MemoryLimit => "memory_limit",
            Self::DiskLimit => "disk_limit",
            Self::NetworkLimit => "network_limit",
        }
    }
}

/// Whether guests are held to a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Enforcement {
    /// They are, as far as is known.
    Enforced,
    /// The host could not do it, at least once since the agent started.
    Refused,
}

/// All of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vitals {
    /// Whether libvirt is there.
    pub connected: bool,
    /// What the breaker lets through.
    pub breaker: BreakerState,
    /// The threads that call libvirt.
    pub workers: Workers,
    /// What guests are held to; what the configuration does not ask for, or is not known yet, is missing.
    pub policies: Vec<(Policy, Enforcement)>,
}
