//! The VM as it is seen: what libvirt says of its domain, and what readers are told.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::identity::VmId;
use super::record::{BootMoment, Desired, VmRecord, VmStage};
use super::validation::Invalid;

/// What libvirt says of a domain's power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    /// The guest runs.
    Running,
    /// The guest is held, by libvirt, an operator or an I/O error; the reason in libvirt's words.
    Paused(&'static str),
    /// The power is off.
    Off(OffCause),
    /// QEMU died.
    Crashed,
}

/// How a domain's power went off, as far as libvirt remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffCause {
    /// The guest powered itself off, asked or not.
    Guest,
    /// Somebody cut it.
    Cut,
    /// libvirt does not know: it was not running since libvirt was started.
    Unknown,
}

impl fmt::Display for OffCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Guest => "the guest powered itself off",
            Self::Cut => "its power was cut",
            Self::Unknown => "it went off past the agent",
        })
    }
}

impl PowerState {
    /// Whether no guest is there any more, for whatever cause.
    #[must_use]
    pub const fn is_down(&self) -> bool {
        matches!(self, Self::Off(_) | Self::Crashed)
    }

    /// Whether the power is off for whatever cause but QEMU's death.
    #[must_use]
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off(_))
    }
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Paused(why) => write!(f, "paused: {why}"),
            Self::Off(_) => f.write_str("off"),
            Self::Crashed => f.write_str("crashed"),
        }
    }
}

/// What is known of a VM's domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Sighting {
    /// Nothing: libvirt has not been asked since the agent was started.
    #[default]
    Never,
    /// libvirt has no such domain.
    NoDomain,
    /// Its power, when libvirt last told it.
    Power(PowerState),
}

impl Sighting {
    /// The power, where it is known.
    #[must_use]
    pub const fn power(&self) -> Option<&PowerState> {
        match self {
            Self::Never | Self::NoDomain => None,
            Self::Power(power) => Some(power),
        }
    }
}

/// What libvirt says of one domain, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Whose domain it is.
    pub id: VmId,
    /// Its power.
    pub power: PowerState,
    /// CPU time used since it was started.
    pub cpu_time: Duration,
    /// Memory that the guest can't hand back at once, in bytes, where its balloon driver says so.
    pub ram_used: Option<u64>,
    /// What it has moved and takes.
    pub traffic: Traffic,
}

/// What a guest has moved since its start, and what it takes of the host, in bytes; 0 where libvirt does not
/// say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Received.
    pub net_rx: u64,
    /// Sent.
    pub net_tx: u64,
    /// Read from its disk.
    pub disk_read: u64,
    /// Written to its disk.
    pub disk_written: u64,
    /// Taken by its disk in the pool.
    pub disk_used: u64,
    /// Taken of the host's memory.
    pub host_ram: u64,
}

/// A domain of this agent, as libvirt keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Whose domain it is.
    pub id: VmId,
    /// The VM's record as it was when the domain was defined; `None` if it can't be read.
    pub record: Option<VmRecord>,
    /// Whether the definition will be there when the power goes off.
    pub definition: Definition,
}

/// What libvirt has of a domain's definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definition {
    /// Kept.
    Persistent,
    /// The domain runs, and was undefined meanwhile.
    Transient,
}

/// The published status of a VM (FR1.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VmStatus {
    /// Being made.
    Creating,
    /// Powered on.
    Running,
    /// Powered off.
    Stopped,
    /// Held.
    Paused,
    /// Being removed.
    Deleting,
    /// Failed; the reason is in the log and in the list's `error`.
    Error,
}

impl VmStatus {
    /// All of them, for messages.
    pub const ALL: [Self; 6] =
        [Self::Creating, Self::Running, Self::Stopped, Self::Paused, Self::Deleting, Self::Error];

    /// The published spelling.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }

    /// The status of a recorded VM whose domain was last seen like that. One that was not seen yet
    /// is taken to be what it shall be.
    #[must_use]
    pub const fn of(stage: &VmStage, seen: &Sighting) -> Self {
        let desired = match stage {
            VmStage::Creating { .. } => return Self::Creating,
            VmStage::Deleting => return Self::Deleting,
            VmStage::Ready { failure: Some(_), .. } => return Self::Error,
            VmStage::Ready { failure: None, desired, .. } => desired,
        };
        match (seen, desired) {
            (Sighting::Power(PowerState::Running), _) | (Sighting::Never, Desired::Running) => {
                Self::Running
            }
            (Sighting::Power(PowerState::Off(_)), _) | (Sighting::Never, Desired::Stopped) => {
                Self::Stopped
            }
            (Sighting::Power(PowerState::Paused(_)), _) => Self::Paused,
            (Sighting::Power(PowerState::Crashed) | Sighting::NoDomain, _) => Self::Error,
        }
    }
}

impl FromStr for VmStatus {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let all: Vec<&str> = Self::ALL.map(Self::as_str).to_vec();
            Invalid::new(format!("must be one of {}", all.join(", ")))
        })
    }
}

/// One VM as readers see it; a snapshot that never changes.
#[derive(Debug, Clone, PartialEq)]
pub struct VmView {
    /// What is recorded.
    pub record: Arc<VmRecord>,
    /// Its status now.
    pub status: VmStatus,
    /// 0 to 100, over all its virtual CPUs.
    pub cpu_percent: f32,
    /// 0 to 100 of its memory.
    pub ram_percent: f32,
    /// What it has moved and takes.
    pub traffic: Traffic,
    /// Why it is not as one would expect, and what to do; `None` while all is well.
    pub reason: Option<String>,
}

impl VmView {
    /// How long the guest has run; nothing if it does not.
    #[must_use]
    pub fn uptime(&self, now: BootMoment) -> Duration {
        let started = match self.status {
            VmStatus::Running | VmStatus::Paused => self.record.started,
            VmStatus::Creating | VmStatus::Stopped | VmStatus::Deleting | VmStatus::Error => None,
        };
        let started = started.filter(|started| started.boot == now.boot);
        started.map_or(Duration::ZERO, |started| now.elapsed.saturating_sub(started.elapsed))
    }
}

/// Why a recorded VM whose domain was last seen like that is not as its owner would expect, and what
/// to do.
#[must_use]
pub fn reason(record: &VmRecord, seen: &Sighting) -> Option<String> {
    let VmStage::Ready { desired, failure, .. } = &record.stage else { return None };
    let again = format!("agentctl vm start {}", record.name);
    match (failure, seen, desired) {
        (Some(failure), _, _) => Some(failure.clone()),
        (None, Sighting::Power(PowerState::Crashed), _) => Some(format!(
            "QEMU died under the guest (libvirt's log of domain {} may say why); start it again with: {again}",
            record.id
        )),
        (None, Sighting::Power(PowerState::Paused(why)), _) => Some(format!(
            "the guest is held: {why}; remove the cause, then let it go on with: {again}"
        )),
        (None, Sighting::NoDomain, _) => Some("libvirt has lost its domain".to_owned()),
        (None, Sighting::Power(PowerState::Off(cause)), Desired::Running) => {
            Some(format!("{cause}; start it again with: {again}"))
        }
        (None, Sighting::Power(_) | Sighting::Never, _) => record.note.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ready_vm_without_a_domain_is_an_error_not_stopped() {
        let ready = VmStage::settled(Desired::Stopped);
        assert_eq!(VmStatus::of(&ready, &Sighting::NoDomain), VmStatus::Error);
        assert_eq!(
            VmStatus::of(&ready, &Sighting::Power(PowerState::Off(OffCause::Cut))),
            VmStatus::Stopped
        );
    }

    #[test]
    fn a_vm_that_was_not_seen_yet_is_taken_to_be_what_it_shall_be() {
        for (desired, status) in
            [(Desired::Running, VmStatus::Running), (Desired::Stopped, VmStatus::Stopped)]
        {
            let stage = VmStage::settled(desired);
            assert_eq!(VmStatus::of(&stage, &Sighting::Never), status);
        }
    }
}
