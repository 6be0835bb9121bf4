//! Facts about the host.

use async_trait::async_trait;

use uuid::Uuid;

use super::PortResult;
use crate::domain::Bytes;

/// What the host has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Logical CPUs that are online and may be used, by their numbers, ascending; never empty.
    pub cpus: Vec<u32>,
    /// Physical memory, or less if the agent is held to less.
    pub ram: Bytes,
    /// Which boot of the host this is.
    pub boot: Uuid,
}

/// The host itself.
#[async_trait]
pub trait Host: std::fmt::Debug + Send + Sync {
    /// Its CPUs, its memory, its boot.
    async fn facts(&self) -> PortResult<HostFacts>;
}
