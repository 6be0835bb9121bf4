//! Volumes of the storage pool. A volume's name follows from the VM's id; others are not touched.

use std::path::PathBuf;

use async_trait::async_trait;

use super::PortResult;
use crate::domain::{BaseImage, Bytes, Gib, VmId};

/// The file system of the storage pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolSpace {
    /// Its size.
    pub total: Bytes,
    /// What is free of it.
    pub free: Bytes,
}

/// The volumes that a VM has; absolute paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoundVolumes {
    /// Its overlay.
    pub disk: Option<PathBuf>,
    /// Its seed.
    pub seed: Option<PathBuf>,
}

/// The storage pool.
#[async_trait]
pub trait Storage: std::fmt::Debug + Send + Sync {
    /// Makes the VM's disk: a qcow2 of virtual size `size` that only holds what differs from
    /// `base`. Gives its absolute path.
    async fn create_overlay(&self, id: VmId, base: &BaseImage, size: Gib) -> PortResult<PathBuf>;

    /// Removes the VM's disk; nothing if there is none.
    async fn ensure_no_overlay(&self, id: VmId) -> PortResult<()>;

    /// Stores the VM's seed. Gives its absolute path.
    async fn store_seed(&self, id: VmId, seed: &[u8]) -> PortResult<PathBuf>;

    /// Removes the VM's seed; nothing if there is none.
    async fn ensure_no_seed(&self, id: VmId) -> PortResult<()>;

    /// Where the VM's volumes are, as far as there are any.
    async fn find(&self, id: VmId) -> PortResult<FoundVolumes>;

    /// How large the pool is, and how full.
    async fn space(&self) -> PortResult<PoolSpace>;
}
