//! The types of single values. Each is made by one rule, so a value that exists is allowed.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};

/// The name of a pool or a network in libvirt: 1 to 255 characters without `/`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectName(pub(super) String);

impl ObjectName {
    /// The name as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The URI of a hypervisor of this host, such as `qemu:///system`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibvirtUri(pub(super) String);

impl LibvirtUri {
    /// The URI as it was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for LibvirtUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A name that a client's certificate must carry (subjectAltName) for the client to be obeyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientName {
    /// A `uniformResourceIdentifier`, byte for byte.
    Uri(String),
    /// A `dNSName` in lower case, without wildcard.
    Dns(String),
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Uri(name) | Self::Dns(name) => f.write_str(name),
        }
    }
}

/// The gRPC port where no other was given (requirements, `grpc.listen_addr`).
const DEFAULT_PORT: u16 = 9090;

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenAddr {
    /// There; port 0 means any free one.
    Fixed(SocketAddr),
    /// At this host's address in the VPN, whatever it is, and nowhere else.
    Tailscale {
        /// The port, never 0.
        port: u16,
    },
    /// At this host's address in the VPN while it has one, else on loopback; port 9090.
    Auto,
}

impl ListenAddr {
    /// The loopback address of [`Self::Auto`].
    pub const LOOPBACK: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

    /// The port, 0 for any.
    #[must_use]
    pub const fn port(&self) -> u16 {
        match self {
            Self::Fixed(address) => address.port(),
            Self::Tailscale { port } => *port,
            Self::Auto => DEFAULT_PORT,
        }
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(address) => address.fmt(f),
            Self::Tailscale { port } => write!(f, "tailscale:{port}"),
            Self::Auto => f.write_str("auto"),
        }
    }
}

/// What runs the guests' CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acceleration {
    /// KVM; the agent refuses to run without it.
    Kvm,
    /// KVM where it is usable, else TCG with a warning.
    Auto,
    /// QEMU's emulation, which isolates no one; for tests only.
    Tcg,
}

/// The least severe level that is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What the agent does.
    Info,
    /// What needs an eye.
    Warn,
    /// What failed.
    Error,
}

impl LogLevel {
    /// As in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }
}

/// Where the log goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOutput {
    /// Standard output, which systemd hands to the journal.
    Stdout,
    /// `logging.file`.
    File,
    /// Standard output and `logging.file`.
    Both,
}

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For human eyes.
    Text,
}
