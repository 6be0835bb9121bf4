//! What an agent and its control plane tell each other. Invariant: nothing here grows without bound,
//! whatever a guest or a library says.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::identity::{VmId, VmName};
use super::image::{Arch, TemplateName};
use super::origin::Origin;
use super::resources::NodeResources;
use super::sighting::{VmStatus, VmView};
use super::validation::Invalid;

/// The most bytes of a reason that are told.
const LONGEST_REASON: usize = 1024;

/// Who the agent is, and what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Registration {
    /// Of this process: made at its start.
    pub instance: Uuid,
    /// What does not change from one heartbeat to the next.
    pub profile: Profile,
    /// What the host has and what is left of it; `None` while that is not known.
    pub resources: Option<NodeResources>,
}

/// What an agent registers again for when it changes.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// The agent's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Host and port of its gRPC service inside the VPN; `None` if only its own host reaches it.
    pub address: Option<String>,
    /// The host's.
    pub architecture: Arch,
    /// `kvm` or `tcg`.
    pub acceleration: &'static str,
    /// What it offers.
    pub templates: Vec<TemplateName>,
    /// Of these, those whose image is cached.
    pub templates_cached: Vec<TemplateName>,
    /// The boot of the host.
    pub boot: Uuid,
    /// Total and reserved of CPUs, memory and disk.
    pub totals: Option<[(f64, f64); 3]>,
}

impl Profile {
    /// What of the host's resources is worth a registration.
    #[must_use]
    pub fn totals(resources: &NodeResources) -> [(f64, f64); 3] {
        [resources.cpu, resources.ram, resources.disk].map(|one| (one.total, one.reserved))
    }
}

/// A sign of life.
#[derive(Debug, Clone, PartialEq)]
pub struct HeartbeatReport {
    /// Of this process.
    pub instance: Uuid,
    /// By the agent's clock.
    pub sent_at: Timestamp,
    /// As in [`Registration`].
    pub resources: Option<NodeResources>,
    /// VMs that run.
    pub vms_running: usize,
    /// All VMs.
    pub vms: usize,
    /// The agent's version.
    pub version: String,
    /// How it is.
    pub status: AgentStatus,
    /// The boot of the host.
    pub boot: Uuid,
}

/// How an agent is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentStatus {
    /// All is well.
    Online,
    /// It lives, and something is wrong: one line each, at least one.
    Degraded(Vec<String>),
    /// It ends; its VMs run on.
    Draining,
}

impl AgentStatus {
    /// The most reasons that are told.
    const MOST: usize = 16;

    /// Of an agent with these troubles.
    #[must_use]
    pub fn with(mut troubles: Vec<String>) -> Self {
        troubles.truncate(Self::MOST);
        troubles.iter_mut().for_each(shorten);
        if troubles.is_empty() { Self::Online } else { Self::Degraded(troubles) }
    }
}

/// What the control plane answers to a sign of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Beat {
    /// Its clock, if it told it.
    pub server_time: Option<Timestamp>,
    /// Wanted from one heartbeat to the next, 1 to 3600 s; `None` if it does not say.
    pub interval: Option<Duration>,
    /// The last event of this agent that it keeps; 0 for none.
    pub last_event: u64,
}

/// What it answers to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// As to a heartbeat.
    pub beat: Beat,
    /// Another process of the same id that lived until now, for the log.
    pub superseded: Option<String>,
}

/// What the control plane is told of a VM.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmState {
    /// The VM's name.
    pub name: VmName,
    /// Its status, or that it is gone.
    pub status: ToldStatus,
    /// Why it is not as one would expect, at most 1 KiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Its address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
}

impl VmState {
    /// Of a VM as readers see it.
    #[must_use]
    pub fn of(view: &VmView) -> Self {
        let mut reason = view.reason.clone();
        reason.iter_mut().for_each(shorten);
        let (name, address) = (view.record.name.clone(), view.record.address);
        Self { name, status: ToldStatus::Is(view.status), reason, address }
    }

    /// Of a VM that is gone.
    #[must_use]
    pub const fn deleted(name: VmName) -> Self {
        Self { name, status: ToldStatus::Deleted, reason: None, address: None }
    }
}

/// A VM's status as the control plane is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum ToldStatus {
    /// The VM is there.
    Is(VmStatus),
    /// It is gone.
    Deleted,
}

impl ToldStatus {
    /// The published spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Is(status) => status.as_str(),
            Self::Deleted => "deleted",
        }
    }
}

impl FromStr for ToldStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if text == Self::Deleted.as_str() { Ok(Self::Deleted) } else { text.parse().map(Self::Is) }
    }
}

impl TryFrom<String> for ToldStatus {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<ToldStatus> for String {
    fn from(status: ToldStatus) -> Self {
        status.as_str().to_owned()
    }
}

/// A change of one VM, numbered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmEvent {
    /// Counts up over all restarts, from 1; gaps are possible.
    pub sequence: u64,
    /// When it was seen, by the agent's clock.
    pub at: Timestamp,
    /// The VM.
    pub vm: VmId,
    /// How it is since.
    pub state: VmState,
    /// The command that caused it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
}

/// Why the control plane did not do what it was asked for, as far as that decides what to do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It may go better later; not before `retry_after`, if that is said.
    Transient {
        /// Wanted by the control plane.
        retry_after: Option<Duration>,
    },
    /// It does not know this process: register.
    NotRegistered,
    /// Another process of the same id registered since.
    Superseded,
    /// A person has to do something: a bad certificate, an unknown or revoked agent.
    Refused,
}

/// A call that failed. `Display` is one line, cause then remedy, the same for the same cause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlError {
    /// What it means.
    pub refusal: Refusal,
    /// For people.
    pub cause: String,
}

impl ControlError {
    /// A failure of that kind; `cause` is one line.
    pub fn new(refusal: Refusal, cause: impl Into<String>) -> Self {
        Self { refusal, cause: cause.into() }
    }

    /// One that may go better later.
    pub fn transient(cause: impl Into<String>) -> Self {
        Self::new(Refusal::Transient { retry_after: None }, cause)
    }

    /// One that a person has to look at.
    pub fn refused(cause: impl Into<String>) -> Self {
        Self::new(Refusal::Refused, cause)
    }
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for ControlError {}

fn shorten(text: &mut String) {
    let end = (0..=LONGEST_REASON).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_at_a_character_and_their_number_is_bounded() {
        let AgentStatus::Degraded(told) = AgentStatus::with(vec!["ä".repeat(5000); 40]) else {
            panic!("degraded")
        };
        assert_eq!((told.len(), told[0].len()), (16, 1024));
        assert_eq!(AgentStatus::with(vec![]), AgentStatus::Online);
    }

    #[test]
    fn a_told_status_reads_back_and_nothing_else_is_one() {
        for status in VmStatus::ALL.map(ToldStatus::Is).into_iter().chain([ToldStatus::Deleted]) {
            assert_eq!(status.as_str().parse(), Ok(status));
        }
        assert!("gone".parse::<ToldStatus>().is_err());
    }
}
