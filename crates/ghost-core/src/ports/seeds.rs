//! The seed: what a guest's cloud-init reads at its first boot.

use crate::domain::{Metadata, SshKey, UserData, VmId, VmName};

use super::PortResult;

/// What goes into a seed.
#[derive(Debug, Clone)]
pub struct SeedSpec {
    /// cloud-init's `instance-id`.
    pub id: VmId,
    /// The host name.
    pub name: VmName,
    /// Who gets the keys.
    pub default_user: String,
    /// Who may log in.
    pub ssh_keys: Vec<SshKey>,
    /// What the caller wants to be run.
    pub user_data: Option<UserData>,
    /// The caller's labels, readable in the guest.
    pub metadata: Metadata,
}

/// Builds seeds.
pub trait Seeds: std::fmt::Debug + Send + Sync {
    /// A raw ISO 9660 image with the volume label `cidata` (cloud-init, "NoCloud").
    fn build(&self, spec: &SeedSpec) -> PortResult<Vec<u8>>;
}
