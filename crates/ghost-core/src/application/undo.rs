//! Taking back what was made for a VM. Invariant: nothing is removed from under a domain that may
//! still run, so the steps are taken back newest first and the first failure ends it; a repetition
//! goes on from there, because every step is idempotent.

use std::sync::Arc;

use super::reconcile::DOUBT;
use super::steps::logged;
use crate::application::Registry;
use crate::domain::{AppError, ErrorKind, Step, VmId, VmRecord, VmStage, cause};
use crate::ports::Ports;

/// Takes back `steps`, the newest (last) first.
///
/// # Errors
/// The first step that could not be taken back; the older ones are then untouched.
pub async fn take_back(ports: &Ports, id: VmId, steps: &[Step]) -> Result<(), AppError> {
    for step in steps.iter().rev() {
        match step {
            Step::Domain => {
                logged(ports, "remove domain", ports.hypervisor.ensure_undefined(id)).await?;
            }
            Step::Seed => logged(ports, "remove seed", ports.storage.ensure_no_seed(id)).await?,
            Step::Disk => logged(ports, "remove disk", ports.storage.ensure_no_overlay(id)).await?,
            Step::Address => {
                logged(ports, "release address", ports.network.release_address(id)).await?;
            }
        }
    }
    Ok(())
}

/// Removes a VM whole: what was made for it, then its record, then its name.
///
/// # Errors
/// What could not be removed; the VM then stays known as `Deleting` and can be deleted again.
pub async fn remove(
    ports: &Ports,
    registry: &Registry,
    record: &VmRecord,
    steps: &[Step],
) -> Result<(), AppError> {
    let removed = async {
        take_back(ports, record.id, steps).await?;
        logged(ports, "remove record", ports.ledger.ensure_removed(record.id)).await
    };
    match removed.await {
        Ok(()) => {
            // What was under way when a process died or libvirt went away may yet be done.
            registry.suspect(record.id, ports.clock.monotonic() + DOUBT);
            registry.forget(record.id);
            Ok(())
        }
        Err(error) => {
            registry.publish(Arc::new(VmRecord { stage: VmStage::Deleting, ..record.clone() }));
            Err(error)
        }
    }
}

/// Records that a VM is being changed, before it is.
///
/// # Errors
/// The ledger's. Its folder may hold the new record all the same, so the former one is put back as far as that
/// is possible: what the caller is told has failed must not be done by the next process.
pub async fn change(
    ports: &Ports,
    registry: &Registry,
    record: VmRecord,
    former: &VmRecord,
) -> Result<(), AppError> {
    if let Err(error) = logged(ports, "record", ports.ledger.save(&record)).await {
        return Err(give_up(ports, registry, error, former).await);
    }
    registry.publish(Arc::new(record));
    Ok(())
}

/// Records that a change did not happen, so that a later reconcile does not make it happen; unless the agent
/// is shutting down: then the next one goes on with it.
pub async fn give_up(
    ports: &Ports,
    registry: &Registry,
    error: AppError,
    former: &VmRecord,
) -> AppError {
    if error.kind() == ErrorKind::ShuttingDown {
        return error;
    }
    match ports.ledger.save(former).await {
        Ok(()) => registry.publish(Arc::new(former.clone())),
        Err(unsaved) => {
            tracing::error!(vm_name = %former.name, vm_id = %former.id, error = cause(&unsaved), "cannot record that a change of this VM has failed; the next start of the agent may go on with it");
        }
    }
    error
}

/// The record of a VM in the making, and what has to be taken back if it fails.
///
/// Each step is written to the ledger before it is begun, so that a new process can undo what a
/// dead one left.
#[derive(Debug)]
pub struct Making<'a> {
    ports: &'a Ports,
    registry: &'a Registry,
    record: VmRecord,
    begun: Vec<Step>,
}

impl<'a> Making<'a> {
    /// Nothing has been written or touched yet.
    #[must_use]
    pub fn new(ports: &'a Ports, registry: &'a Registry, record: VmRecord) -> Self {
        Self { ports, registry, record, begun: Vec::new() }
    }

    /// The record as it stands.
    #[must_use]
    pub fn record(&self) -> &VmRecord {
        &self.record
    }

    /// Notes durably that `steps` are about to be made, at once or in that order.
    ///
    /// # Errors
    /// The ledger's; the steps must not be made then. The ledger may hold them all the same.
    pub async fn about_to(&mut self, steps: &[Step]) -> Result<(), AppError> {
        self.begun.extend_from_slice(steps);
        let undo = self.begun.clone();
        self.note(|record| record.stage = VmStage::Creating { undo });
        self.ports.ledger.save(&self.record).await
    }

    /// Changes the record in memory; the next save writes it.
    pub fn note(&mut self, change: impl FnOnce(&mut VmRecord)) {
        change(&mut self.record);
        self.registry.publish(Arc::new(self.record.clone()));
    }

    /// The VM is made: writes the final record and disarms the undo.
    ///
    /// # Errors
    /// The ledger's, with the VM still armed.
    pub async fn finish(&mut self, stage: VmStage) -> Result<(), AppError> {
        let done = VmRecord { stage, ..self.record.clone() };
        self.ports.ledger.save(&done).await?;
        self.record = done;
        self.registry.publish(Arc::new(self.record.clone()));
        Ok(())
    }

    /// Takes everything back.
    ///
    /// # Errors
    /// What could not be taken back; the VM then stays known as `Deleting`.
    pub async fn take_back(self) -> Result<(), AppError> {
        remove(self.ports, self.registry, &self.record, &self.begun).await
    }
}
