//! The VM as the ledger keeps it: what it shall be, and how far its making, its changing or its removal
//! has come. Invariant: a record alone is enough to go on where a dead process stopped.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::guest_config::Metadata;
use super::identity::{MacAddr, RequestId, VmId, VmName};
use super::image::{Checksum, Firmware, TemplateName};
use super::origin::Origin;
use super::vm::{VmShape, VmSpec};

/// What the VM's owner wants it to be; kept over restarts of the agent and of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Desired {
    /// Powered on.
    Running,
    /// Powered off.
    Stopped,
}

/// Whether a start or a stop is under way. One that a dead process left under way is resumed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Change {
    /// The VM has been what it shall be.
    #[default]
    Done,
    /// Somebody was told to make it so.
    UnderWay,
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
        /// How far it is that.
        #[serde(default)]
        change: Change,
        /// Why its creation failed, if it was kept nevertheless (`vm.keep_failed`).
        failure: Option<String>,
    },
    /// Being removed.
    Deleting,
}

impl VmStage {
    /// Made, and what it shall be.
    #[must_use]
    pub const fn settled(desired: Desired) -> Self {
        Self::Ready { desired, change: Change::Done, failure: None }
    }
}

/// A moment that a jump of the wall clock does not move.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootMoment {
    /// The boot of the host (`/proc/sys/kernel/random/boot_id`).
    pub boot: Uuid,
    /// Since that boot, time in suspension included.
    pub elapsed: Duration,
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
    /// The base image under its disk, for life; unknown until the disk is made.
    #[serde(default)]
    pub image: Option<Checksum>,
    /// What boots it; that of its host's architecture if nothing is recorded.
    #[serde(default)]
    pub firmware: Option<Firmware>,
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
    #[serde(default)]
    pub started: Option<BootMoment>,
    /// The last command that changed it, or tries to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<Origin>,
    /// What happened to it past the agent, for its owner; until its next start or stop.
    #[serde(default)]
    pub note: Option<String>,
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
            image: None,
            firmware: Some(spec.template.firmware),
            metadata: spec.metadata.clone(),
            request_id: spec.request_id.clone(),
            stage: VmStage::Creating { undo: Vec::new() },
            address: None,
            created_at: now,
            started: None,
            origin: None,
            note: None,
        }
    }

    /// Its Ethernet address.
    #[must_use]
    pub fn mac(&self) -> MacAddr {
        MacAddr::of(self.id)
    }
}
