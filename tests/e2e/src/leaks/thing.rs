//! One thing that an agent could leave behind: whose it is, and how it is removed by force.

use std::fmt;
use std::path::PathBuf;

use rustix::process::{Pid, Signal};

use crate::libvirt::Libvirt;
use crate::processes::Process;
use crate::root;

/// The namespace of the mark in a domain's metadata (`ghost-libvirt`, `mark.rs`).
const MARK: &str = "https://ghost.cloud/agent/1";

/// One thing. They are removed in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Thing {
    /// A domain of libvirt.
    Domain {
        /// Its UUID.
        uuid: String,
        /// Its name.
        name: String,
        /// Whether it bears the agent's mark.
        whose: Whose,
    },
    /// A process of QEMU whose domain an agent named.
    Qemu {
        /// Its process id.
        pid: i32,
        /// Its command line's beginning.
        line: String,
    },
    /// A network filter, bound to a guest's interface.
    Filter {
        /// The interface.
        device: String,
        /// Whether its owner is an agent's domain.
        whose: Whose,
    },
    /// A volume of an active pool.
    Volume {
        /// The pool.
        pool: String,
        /// The volume.
        name: String,
    },
    /// A static DHCP host.
    DhcpHost {
        /// The network.
        network: String,
        /// The element.
        xml: String,
    },
    /// A record of the ledger, a temporary or damaged file of it, or a part of an image.
    File(PathBuf),
}

/// To whom a thing belongs that does not say so by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// An agent's.
    Agents,
    /// Somebody else's.
    Others,
}

impl Thing {
    pub(super) fn domain(uuid: &str, name: &str, xml: &str) -> Self {
        // A copy of one of our domains keeps the mark, which then names another domain.
        let marked = xml.contains(MARK) && xml.contains(&format!("id=\"{uuid}\""))
            || xml.contains(MARK) && xml.contains(&format!("id='{uuid}'"));
        let whose = if marked { Whose::Agents } else { Whose::Others };
        Self::Domain { uuid: uuid.to_owned(), name: name.to_owned(), whose }
    }

    pub(super) fn qemu(process: Process) -> Self {
        let line = process.line.chars().take(80).collect();
        Self::Qemu { pid: process.pid.as_raw_pid(), line }
    }

    pub(super) fn filter(device: &str, xml: &str) -> Self {
        let owner = xml.contains("<name>ghost-");
        let whose = if owner { Whose::Agents } else { Whose::Others };
        Self::Filter { device: device.to_owned(), whose }
    }

    pub(super) fn volume(pool: &str, name: &str) -> Self {
        Self::Volume { pool: pool.to_owned(), name: name.to_owned() }
    }

    pub(super) fn dhcp_host(network: &str, xml: &str) -> Self {
        Self::DhcpHost { network: network.to_owned(), xml: xml.to_owned() }
    }

    pub(super) fn file(path: PathBuf) -> Self {
        Self::File(path)
    }

    /// Whether an agent made it.
    #[must_use]
    pub fn is_the_agents(&self) -> bool {
        match self {
            Self::Domain { whose, .. } | Self::Filter { whose, .. } => *whose == Whose::Agents,
            Self::Volume { name, .. } => name.starts_with("ghost-"),
            Self::DhcpHost { xml, .. } => xml.contains("name='ghost-"),
            Self::Qemu { .. } | Self::File(_) => true,
        }
    }

    /// Whether it stays until somebody removes it, so that its absence is a loss.
    #[must_use]
    pub fn lasts(&self) -> bool {
        match self {
            Self::Domain { .. } | Self::Volume { .. } | Self::DhcpHost { .. } => true,
            Self::Qemu { .. } | Self::Filter { .. } | Self::File(_) => false,
        }
    }

    /// Removes it as far as possible; it may have gone with another.
    pub(crate) fn remove_by_force(&self, libvirt: &Libvirt) {
        let virsh = |args: &[&str]| drop(libvirt.call(args));
        match self {
            Self::Domain { uuid, .. } => {
                virsh(&["destroy", uuid]);
                virsh(&["undefine", uuid, "--nvram", "--managed-save", "--snapshots-metadata"]);
            }
            Self::Qemu { pid, .. } => {
                drop(Pid::from_raw(*pid).map(|pid| root::signal(pid, Signal::KILL)));
            }
            Self::Filter { device, .. } => virsh(&["nwfilter-binding-delete", device]),
            Self::Volume { pool, name } => virsh(&["vol-delete", name, "--pool", pool]),
            Self::DhcpHost { network, xml } => {
                for reach in ["--live", "--config"] {
                    virsh(&["net-update", network, "delete", "ip-dhcp-host", xml, reach]);
                }
            }
            Self::File(path) => drop(root::run(["rm".as_ref(), "-f".as_ref(), path.as_os_str()])),
        }
    }
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain { uuid, name, .. } => write!(f, "domain {name} ({uuid})"),
            Self::Qemu { pid, line } => write!(f, "process {pid} ({line})"),
            Self::Filter { device, .. } => write!(f, "network filter on {device}"),
            Self::Volume { pool, name } => write!(f, "volume {name} in pool {pool}"),
            Self::DhcpHost { network, xml } => write!(f, "DHCP host {xml} in network {network}"),
            Self::File(path) => write!(f, "file {}", path.display()),
        }
    }
}
