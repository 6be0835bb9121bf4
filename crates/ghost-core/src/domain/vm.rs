//! The VM: what is asked for, what is recorded, what is observed. Invariant: a [`VmSpec`] is
//! within every limit of FR1.1, and its template exists.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::AppError;
use super::guest_config::{Metadata, SSH_KEYS, SshKey, UserData};
use super::identity::{MacAddr, RequestId, VmId, VmName};
use super::image::{Catalog, Template, TemplateName};
use super::resources::{Allocation, Gib};
use super::validation::{Invalid, Violations};

/// A create as it came in, not yet looked at. Fields as in the wire contract.
#[derive(Debug, Clone, Default)]
#[expect(missing_docs, reason = "named and documented in agent.proto, CreateVMRequest")]
pub struct VmRequest {
    pub name: String,
    pub vcpu: i32,
    pub ram_gb: i32,
    pub disk_gb: i32,
    pub template: String,
    pub metadata: HashMap<String, String>,
    pub ssh_authorized_keys: Vec<String>,
    pub user_data: String,
    pub request_id: String,
}

/// The size of a VM: 1 to 32 vCPUs, 1 to 128 GiB of memory, 10 to 1000 GiB of disk (FR1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmShape {
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Memory.
    pub ram: Gib,
    /// Virtual size of the disk.
    pub disk: Gib,
}

impl VmShape {
    /// What the VM may take of the host at most.
    #[must_use]
    pub fn allocation(&self) -> Allocation {
        Allocation { vcpus: self.vcpus, ram: self.ram.bytes(), disk: self.disk.bytes() }
    }
}

/// A create that can be carried out.
#[derive(Debug, Clone)]
pub struct VmSpec {
    /// Unique on the agent.
    pub name: VmName,
    /// Its size.
    pub shape: VmShape,
    /// What its disk is a copy of.
    pub template: Template,
    /// The caller's labels.
    pub metadata: Metadata,
    /// Who may log in.
    pub ssh_keys: Vec<SshKey>,
    /// What cloud-init shall run.
    pub user_data: Option<UserData>,
    /// Makes a retry recognisable.
    pub request_id: Option<RequestId>,
}

impl VmSpec {
    /// Reads a request.
    ///
    /// # Errors
    /// `VALIDATION_ERROR` with every wrong field.
    pub fn parse(request: VmRequest, catalog: &Catalog) -> Result<Self, AppError> {
        let mut wrong = Violations::default();
        let name = wrong.check("name", request.name.parse::<VmName>());
        let vcpus = wrong.check("vcpu", vcpus(request.vcpu));
        let ram = wrong.check("ram_gb", Gib::within(1..=128, request.ram_gb.into()));
        let disk = wrong.check("disk_gb", Gib::within(10..=1000, request.disk_gb.into()));
        let template =
            TemplateName::from_str(&request.template).and_then(|name| catalog.get(&name).cloned());
        let template = wrong.check("template", template);
        let metadata = Metadata::parse(request.metadata, &mut wrong);
        let ssh_keys = parse_keys(&request.ssh_authorized_keys, &mut wrong);
        let user_data = optional(&request.user_data, "user_data", &mut wrong);
        let request_id = optional(&request.request_id, "request_id", &mut wrong);
        let parsed = || {
            let shape = VmShape { vcpus: vcpus?, ram: ram?, disk: disk? };
            let (name, template) = (name?, template?);
            Some(Self { name, shape, template, metadata, ssh_keys, user_data, request_id })
        };
        let spec = parsed();
        wrong.finish(spec)
    }
}

fn vcpus(asked: i32) -> Result<u32, Invalid> {
    u32::try_from(asked)
        .ok()
        .filter(|n| (1..=32).contains(n))
        .ok_or_else(|| Invalid::new(format!("must be 1 to 32, not {asked}")))
}

fn parse_keys(keys: &[String], wrong: &mut Violations) -> Vec<SshKey> {
    if keys.len() > SSH_KEYS {
        wrong.add(
            "ssh_authorized_keys",
            format!("has {} keys, at most {SSH_KEYS} are allowed", keys.len()),
        );
        return Vec::new();
    }
    let parse =
        |(i, key): (usize, &String)| wrong.check(format!("ssh_authorized_keys[{i}]"), key.parse());
    keys.iter().enumerate().filter_map(parse).collect()
}

fn optional<T: FromStr<Err = Invalid>>(
    text: &str,
    field: &'static str,
    wrong: &mut Violations,
) -> Option<T> {
    if text.is_empty() { None } else { wrong.check(field, text.parse()) }
}

/// What the VM's owner wants it to be; kept over restarts of the agent and of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Powered on.
    Running,
    /// Powered off.
    Stopped,
}

/// One thing that is made for a VM. Its name on the host follows from the VM's id alone, so that
/// taking it back needs nothing else and may be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Step {
    /// The reserved address: a static host of the network's DHCP server.
    Address,
    /// The overlay volume.
    Disk,
    /// The seed volume.
    Seed,
    /// The domain, running or not, with its console log.
    Domain,
}

impl Step {
    /// In the order in which they are made.
    pub const ALL: [Self; 4] = [Self::Address, Self::Disk, Self::Seed, Self::Domain];
}

/// How far the VM's life has come.
///
/// ```text
/// Creating ──▶ Ready ──▶ Deleting ──▶ (no record)
///     └─▶ (undone: no record), or Ready with a failure if it is to be kept
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VmStage {
    /// Being made; `undo` lists what has to be taken back, oldest first.
    Creating {
        /// Steps that were begun.
        undo: Vec<Step>,
    },
    /// Made.
    Ready {
        /// What it shall be.
        desired: Desired,
        /// Why its creation failed, if it was kept nevertheless (`vm.keep_failed`).
        failure: Option<String>,
    },
    /// Being removed.
    Deleting,
}

/// What the ledger holds of one VM: all that libvirt can't tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmRecord {
    /// Its id, also the domain's UUID.
    pub id: VmId,
    /// Its name.
    pub name: VmName,
    /// Its size.
    pub shape: VmShape,
    /// What its disk is a copy of.
    pub template: TemplateName,
    /// The caller's labels.
    pub metadata: Metadata,
    /// The create that made it.
    pub request_id: Option<RequestId>,
    /// How far its life has come.
    pub stage: VmStage,
    /// The address that is its own for life, once it is reserved.
    pub address: Option<std::net::Ipv4Addr>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last started.
    pub started_at: Option<Timestamp>,
}

impl VmRecord {
    /// A VM about to be made.
    #[must_use]
    pub fn creating(id: VmId, spec: &VmSpec, now: Timestamp) -> Self {
        Self {
            id,
            name: spec.name.clone(),
            shape: spec.shape,
            template: spec.template.name.clone(),
            metadata: spec.metadata.clone(),
            request_id: spec.request_id.clone(),
            stage: VmStage::Creating { undo: Vec::new() },
            address: None,
            created_at: now,
            started_at: None,
        }
    }

    /// Its Ethernet address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        MacAddr::of(self.id)
    }
}

/// What libvirt says of a domain's power.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PowerState {
    /// The guest runs.
    Running,
    /// The guest is held, by libvirt, an operator or an I/O error; the reason in libvirt's words.
    Paused(&'static str),
    /// The power is off.
    Off,
    /// QEMU died.
    Crashed,
}

impl fmt::Display for PowerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Paused(why) => write!(f, "paused: {why}"),
            Self::Off => f.write_str("off"),
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
    pub cpu_time: std::time::Duration,
    /// Memory that the guest can't hand back at once, in bytes, where its balloon driver says so.
    pub ram_used: Option<u64>,
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
            VmStage::Ready { failure: None, desired } => desired,
        };
        match (seen, desired) {
            (Sighting::Power(PowerState::Running), _) | (Sighting::Never, Desired::Running) => {
                Self::Running
            }
            (Sighting::Power(PowerState::Off), _) | (Sighting::Never, Desired::Stopped) => {
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::image::Arch;

    fn catalog() -> Catalog {
        let template = Template {
            name: "debian-12".parse().unwrap(),
            arch: Arch::X86_64,
            url: "file:///a.qcow2".parse().unwrap(),
            checksum: "0".repeat(64).parse().unwrap(),
            default_user: "debian".to_owned(),
        };
        Catalog::new(Arch::X86_64, [template])
    }

    fn request() -> VmRequest {
        VmRequest {
            name: "web-1".to_owned(),
            vcpu: 1,
            ram_gb: 1,
            disk_gb: 10,
            template: "debian-12".to_owned(),
            ..VmRequest::default()
        }
    }

    #[test]
    fn a_request_with_only_the_required_fields_is_enough() {
        let spec = VmSpec::parse(request(), &catalog()).unwrap();
        assert_eq!(spec.name.as_str(), "web-1");
        assert_eq!(spec.request_id, None);
    }

    #[test]
    fn every_wrong_field_is_reported_at_once() {
        let wrong = VmRequest {
            name: "../etc".to_owned(),
            vcpu: 33,
            ram_gb: 0,
            disk_gb: 9,
            template: "windows".to_owned(),
            metadata: [("UPPER".to_owned(), String::new())].into(),
            ssh_authorized_keys: vec!["nonsense".to_owned()],
            user_data: "nonsense".to_owned(),
            request_id: "has space".to_owned(),
        };
        let error = VmSpec::parse(wrong, &catalog()).unwrap_err();
        let fields: Vec<&str> = error.violations().iter().map(|v| v.field.as_ref()).collect();
        let expected = [
            "name",
            "vcpu",
            "ram_gb",
            "disk_gb",
            "template",
            "metadata",
            "ssh_authorized_keys[0]",
            "user_data",
            "request_id",
        ];
        assert_eq!(fields, expected);
    }

    #[test]
    fn a_ready_vm_without_a_domain_is_an_error_not_stopped() {
        let ready = VmStage::Ready { desired: Desired::Stopped, failure: None };
        assert_eq!(VmStatus::of(&ready, &Sighting::NoDomain), VmStatus::Error);
        assert_eq!(VmStatus::of(&ready, &Sighting::Power(PowerState::Off)), VmStatus::Stopped);
    }

    #[test]
    fn a_vm_that_was_not_seen_yet_is_taken_to_be_what_it_shall_be() {
        for (desired, status) in
            [(Desired::Running, VmStatus::Running), (Desired::Stopped, VmStatus::Stopped)]
        {
            let stage = VmStage::Ready { desired, failure: None };
            assert_eq!(VmStatus::of(&stage, &Sighting::Never), status);
        }
    }

    proptest! {
        #[test]
        fn a_spec_that_exists_is_within_every_limit(
            name in "[a-z-]{0,70}", vcpu in -5i32..50, ram_gb in -5i32..150, disk_gb in -5i32..1100
        ) {
            let request = VmRequest { name, vcpu, ram_gb, disk_gb, ..request() };
            if let Ok(spec) = VmSpec::parse(request, &catalog()) {
                prop_assert!((1..=32).contains(&spec.shape.vcpus));
                prop_assert!((1..=128).contains(&spec.shape.ram.get()));
                prop_assert!((10..=1000).contains(&spec.shape.disk.get()));
            }
        }

        #[test]
        fn every_size_within_the_limits_is_accepted(vcpu in 1i32..=32, ram_gb in 1i32..=128, disk_gb in 10i32..=1000) {
            let request = VmRequest { vcpu, ram_gb, disk_gb, ..request() };
            prop_assert!(VmSpec::parse(request, &catalog()).is_ok());
        }
    }
}
