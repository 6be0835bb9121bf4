//! The ledger: what the agent knows of its VMs, durable before anything is touched.

use async_trait::async_trait;

use super::PortResult;
use crate::domain::{VmId, VmRecord};

/// The durable records of all VMs.
#[async_trait]
pub trait VmLedger: std::fmt::Debug + Send + Sync {
    /// All records.
    async fn load(&self) -> PortResult<Vec<VmRecord>>;

    /// Writes a record, replacing the VM's former one; durable when it returns.
    async fn save(&self, record: &VmRecord) -> PortResult<()>;

    /// Removes a record, durably; nothing if there is none.
    async fn ensure_removed(&self, id: VmId) -> PortResult<()>;
}
