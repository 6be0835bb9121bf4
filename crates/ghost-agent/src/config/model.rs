//! The types of single values. Each is made by one rule, so a value that exists is allowed.

use std::fmt;

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
