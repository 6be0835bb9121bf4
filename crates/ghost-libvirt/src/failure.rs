//! What can go wrong at libvirt, and how it reads for the agent's callers.
//!
//! Invariant: every failure becomes one [`AppError`] of a fitting kind that names its cause and,
//! where one is known, its remedy.

use std::borrow::Cow;
use std::time::Duration;

use ghost_core::domain::{AppError, ErrorKind, VmId};

use crate::breaker::{Cause, Refusal};
use crate::sys::{LIBVIRTD_HANGS, LibvirtError};

/// What callers are told to wait while an earlier call has not ended: nobody knows when it will.
const UNFINISHED_PAUSE: Duration = Duration::from_secs(1);

/// A failure of this crate.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A call failed; the executor turns it into `Failed` or `Unavailable`.
    #[error("a call of libvirt failed")]
    Call(#[from] LibvirtError),
    /// libvirt answered, with an error.
    #[error("libvirt could not {what}")]
    Failed {
        /// What was attempted, as a verb.
        what: &'static str,
        #[source]
        source: LibvirtError,
    },
    /// There is no connection to be had.
    #[error("libvirt does not answer")]
    Unavailable {
        #[source]
        source: LibvirtError,
    },
    /// A call took too long; it may still take effect.
    #[error("libvirt did not {what} within {limit:?}")]
    TimedOut {
        /// What was attempted, as a verb.
        what: &'static str,
        /// The call's deadline.
        limit: Duration,
    },
    /// libvirt is known to be away; no call is made for a while.
    #[error("{}", resting(.0.cause))]
    Resting(Refusal),
    /// An earlier call for the same VM was given up and may still take effect.
    #[error("libvirt still works on an earlier call for this VM ({earlier})")]
    Unfinished {
        /// What that one attempts, as a verb.
        earlier: &'static str,
    },
    /// The agent is shutting down.
    #[error("the agent is shutting down")]
    Stopped,
    /// A panic while a call was made: a bug of ours.
    #[error("the agent failed at an attempt to {what}: {panic}")]
    Panicked {
        /// What was attempted, as a verb.
        what: &'static str,
        /// What the panic said.
        panic: String,
    },
    /// There is no such domain.
    #[error("libvirt has no domain {0}")]
    NoDomain(VmId),
    /// There is such a domain, made by somebody else.
    #[error("domain {0} was not made by the agent")]
    NotOurs(VmId),
    /// The configured network does not exist.
    #[error("libvirt has no network '{0}'")]
    NoNetwork(String),
    /// The configured network does not run.
    #[error("network '{0}' does not run")]
    NetworkInactive(String),
    /// The configured network hands out no addresses.
    #[error("network '{0}' has no DHCP range for IPv4")]
    NoDhcp(String),
    /// All addresses are taken.
    #[error(
        "network '{network}' has no free address: all {size} of its DHCP range are reserved or leased"
    )]
    NoAddress {
        /// The network's name.
        network: String,
        /// Addresses in its range.
        size: usize,
    },
    /// Another host of the network has the MAC address that follows from the VM's id.
    #[error("network '{network}' already has a host with the MAC address {mac}")]
    MacTaken {
        /// The network's name.
        network: String,
        /// The address.
        mac: String,
    },
    /// The configured pool does not exist.
    #[error("libvirt has no storage pool '{0}'")]
    NoPool(String),
    /// The configured pool does not run.
    #[error("storage pool '{0}' does not run")]
    PoolInactive(String),
    /// The network filter that VMs are held by does not exist.
    #[error("libvirt has no network filter '{0}'")]
    NoFilter(&'static str),
    /// libvirt's XML is not what it should be.
    #[error("libvirt's XML of {what} is not understood: {why}")]
    Xml {
        /// Of what.
        what: &'static str,
        /// Why.
        why: String,
    },
}

impl Failure {
    /// Counts against the breaker: libvirt itself is at fault, not the request.
    pub(crate) fn is_outage(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::TimedOut { .. })
    }

    /// When it makes sense to ask again, where that is known.
    fn retry_in(&self) -> Option<Duration> {
        match self {
            Self::Resting(refusal) => Some(refusal.retry_in),
            Self::Unfinished { .. } => Some(UNFINISHED_PAUSE),
            _other => None,
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::Resting(_)
            | Self::Unfinished { .. }
            | Self::NoPool(_)
            | Self::PoolInactive(_) => ErrorKind::HypervisorUnavailable,
            Self::NoNetwork(_) | Self::NetworkInactive(_) | Self::NoDhcp(_) | Self::NoFilter(_) => {
                ErrorKind::NetworkUnavailable
            }
            Self::Stopped => ErrorKind::ShuttingDown,
            Self::Panicked { .. } => ErrorKind::Internal,
            Self::NoAddress { .. } => ErrorKind::ResourceLimit,
            Self::NoDomain(_) | Self::NotOurs(_) | Self::MacTaken { .. } | Self::Xml { .. } => {
                ErrorKind::HypervisorFailed
            }
            Self::Call(source) | Self::Failed { source, .. } => {
                known(source).map_or(ErrorKind::HypervisorFailed, |k| k.0)
            }
        }
    }

    fn remedy(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Unavailable { source } => return Some(remedy_of_outage(source).into()),
            Self::TimedOut { .. } => "see what libvirtd is doing: journalctl -u libvirtd, or its log file".into(),
            Self::Resting(refusal) => {
                format!("it is tried again in {} s; see whether it runs: systemctl status libvirtd", refusal.retry_in.as_secs() + 1)
                    .into()
            }
            Self::Unfinished { .. } => {
                "try again in a while; if it does not end, see what libvirtd is doing: journalctl -u libvirtd".into()
            }
            Self::NoNetwork(name) => {
                format!("define it (virsh net-define), or set libvirt.network to one of virsh net-list --all; it is now '{name}'")
                    .into()
            }
            Self::NetworkInactive(name) => format!("start it with: virsh net-start {name}").into(),
            Self::NoDhcp(name) => format!("add a <dhcp><range/></dhcp> to its IPv4 address with: virsh net-edit {name}").into(),
            Self::NoAddress { network, .. } => {
                format!("delete VMs, wait for leases to end, or widen the range with: virsh net-edit {network}").into()
            }
            Self::MacTaken { .. } => "try again: a new VM gets another address".into(),
            Self::NoPool(name) => {
                format!("define it with: virsh pool-define-as {name} dir --target FOLDER, or set libvirt.storage_pool to one of virsh pool-list --all")
                    .into()
            }
            Self::PoolInactive(name) => format!("start it with: virsh pool-start {name}").into(),
            Self::NoFilter(_) => {
                "install libvirt's network filters (libvirt-daemon-config-nwfilter), then restart libvirtd".into()
            }
            Self::NotOurs(_) => "the agent leaves it alone; look at it with: virsh dumpxml".into(),
            Self::Failed { source, .. } | Self::Call(source) => return known(source).and_then(|k| k.1).map(Cow::Borrowed),
            Self::Panicked { .. } => "report it, with the agent's log of this moment".into(),
            Self::NoDomain(_) => "it is defined again within a minute, if its volumes are there; its status says more".into(),
            Self::Stopped | Self::Xml { .. } => return None,
        };
        Some(text)
    }
}

/// libvirt's refusals that have a class, or a remedy, of their own; told apart by text, because
/// libvirt gives them no code.
fn known(source: &LibvirtError) -> Option<(ErrorKind, Option<&'static str>)> {
    let says = |text: &str| source.message.contains(text);
    if source.is_full() {
        Some((ErrorKind::ResourceLimit, Some("free space in the storage pool's file system")))
    } else if says("Cannot allocate memory") || says("cannot set up guest memory") {
        Some((
            ErrorKind::ResourceLimit,
            Some("the host's memory is used up: stop something, or reserve more for the owner"),
        ))
    } else if says("Could not access KVM kernel module") || says("failed to initialize kvm") {
        Some((
            ErrorKind::HypervisorFailed,
            Some("let QEMU open /dev/kvm: chgrp kvm /dev/kvm; chmod 660 /dev/kvm"),
        ))
    } else if says("network") && says("is not active") {
        Some((ErrorKind::NetworkUnavailable, Some("start the network with: virsh net-start NAME")))
    } else {
        None
    }
}

fn resting(cause: Cause) -> Cow<'static, str> {
    match cause {
        Cause::Outages => "libvirt failed several times in a row".into(),
        Cause::Lost(reason) => format!("libvirt is away: {reason}").into(),
    }
}

/// What kind of outage of libvirt it is, as far as its own words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outage {
    /// The agent's user may not use its socket.
    Denied,
    /// It runs, and answers nothing.
    Hangs,
    /// It does not run, or something else keeps it away.
    Away,
}

impl Outage {
    /// By why there is no connection: libvirt's message, or why the connection ended.
    #[must_use]
    pub fn of(why: &str) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| why.contains(word));
        if says(&["Permission denied", "authentication"]) {
            Self::Denied
        } else if says(&["keepalive", LIBVIRTD_HANGS]) {
            Self::Hangs
        } else {
            Self::Away
        }
    }
}

fn remedy_of_outage(source: &LibvirtError) -> &'static str {
    let outage = match source.errno {
        Some(libc::EACCES) => Outage::Denied,
        _ => Outage::of(&source.message),
    };
    match outage {
        Outage::Denied => {
            "let the agent's user use libvirt's socket: usermod -aG libvirt USER, then start the agent anew"
        }
        Outage::Hangs => "if it lasts, end what hangs with: systemctl restart libvirtd",
        Outage::Away => "start it with: systemctl start libvirtd",
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Self::Resting(refusal)
    }
}

impl From<Failure> for AppError {
    fn from(error: Failure) -> Self {
        let message = match &error {
            Failure::Failed { source, .. } | Failure::Unavailable { source } => {
                format!("{error}: {source}")
            }
            Failure::Call(source) => source.to_string(),
            _other => error.to_string(),
        };
        let mut app = Self::new(error.kind(), message);
        if let Some(pause) = error.retry_in() {
            app = app.with("retry_after_ms", pause.as_millis());
        }
        if let Some(remedy) = error.remedy() {
            app = app.remedy(remedy);
        }
        app.because(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(message: &str) -> AppError {
        let source = LibvirtError::own(virt_sys::VIR_ERR_INTERNAL_ERROR, message);
        Failure::Failed { what: "start the domain", source }.into()
    }

    #[test]
    fn libvirts_refusals_get_the_class_of_their_cause() {
        let cases = [
            ("cannot extend file: No space left on device", ErrorKind::ResourceLimit),
            (
                "qemu: cannot set up guest memory 'pc.ram': Cannot allocate memory",
                ErrorKind::ResourceLimit,
            ),
            (
                "Requested operation is not valid: network 'default' is not active",
                ErrorKind::NetworkUnavailable,
            ),
            ("unsupported configuration", ErrorKind::HypervisorFailed),
        ];
        for (message, kind) in cases {
            assert_eq!(failed(message).kind(), kind, "{message}");
        }
    }

    #[test]
    fn a_failure_reads_as_what_why_and_remedy() {
        let text = failed("No space left on device").to_string();
        let expected = "libvirt could not start the domain: No space left on device; \
                        free space in the storage pool's file system";
        assert_eq!(text, expected);
    }

    #[test]
    fn each_kind_of_outage_names_its_own_way_out() {
        let outage = |errno, message: &str| {
            let source = LibvirtError {
                errno,
                ..LibvirtError::own(virt_sys::VIR_ERR_SYSTEM_ERROR, message)
            };
            AppError::from(Failure::Unavailable { source }).to_string()
        };
        assert!(
            outage(Some(libc::EACCES), "Failed to connect socket").contains("usermod -aG libvirt")
        );
        assert!(
            outage(None, "Failed to connect socket: Permission denied")
                .contains("usermod -aG libvirt")
        );
        assert!(
            outage(Some(libc::ENOENT), "Failed to connect socket")
                .contains("systemctl start libvirtd")
        );
        let hangs = outage(None, "internal error: connection closed due to keepalive timeout");
        assert!(hangs.contains("systemctl restart libvirtd"), "{hangs}");
    }

    #[test]
    fn an_open_breaker_says_when_to_come_back() {
        let retry_in = Duration::from_millis(1500);
        let app =
            AppError::from(Failure::from(Refusal { cause: Cause::Lost("it went"), retry_in }));
        assert_eq!(app.kind(), ErrorKind::HypervisorUnavailable);
        assert!(app.context().contains(&("retry_after_ms", "1500".to_owned())));
        assert!(app.to_string().starts_with("libvirt is away: it went; it is tried again in 2 s"));
    }

    #[test]
    fn a_call_that_has_to_wait_for_an_earlier_one_names_it_and_is_no_outage() {
        let failure = Failure::Unfinished { earlier: "start the domain" };
        assert!(!failure.is_outage());
        let app = AppError::from(failure);
        assert_eq!(app.kind(), ErrorKind::HypervisorUnavailable);
        let text = app.to_string();
        assert!(
            text.contains("an earlier call for this VM (start the domain); try again"),
            "{text}"
        );
        assert!(app.context().contains(&("retry_after_ms", "1000".to_owned())));
    }
}
