//! DeleteVM (FR1.2). Invariant: a delete converges: repeated, it goes on where it failed.

use std::sync::Arc;

use super::registry::Registry;
use super::undo;
use crate::domain::{AppError, Origin, Step, VmRecord, VmRef, VmStage};
use crate::ports::{Measured, Ports};

/// The use case.
#[derive(Debug)]
pub struct DeleteVm {
    ports: Ports,
    registry: Arc<Registry>,
}

impl DeleteVm {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>) -> Self {
        Self { ports, registry }
    }

    /// Cuts the VM's power and removes everything that was made for it, because of the command `origin`.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` (busy), or what a port says; the VM is then in status `deleting`
    /// and the delete can be repeated.
    pub async fn run(&self, vm: &VmRef, origin: &Origin) -> Result<(), AppError> {
        let (_operation, record) = self.registry.begin(vm, Some(origin))?;
        let (stage, origin) = (VmStage::Deleting, Some(origin.clone()));
        let deleting = VmRecord { stage, origin, ..(*record).clone() };
        undo::change(&self.ports, &self.registry, deleting.clone(), &record).await?;
        undo::remove(&self.ports, &self.registry, &deleting, &Step::ALL).await.map_err(
            |error| {
                self.registry.problem(record.id, Some(error.to_string()));
                error.with("vm_id", record.id).with("vm_name", &record.name)
            },
        )?;
        self.ports.meter.note(Measured::Deleted);
        Ok(())
    }
}
