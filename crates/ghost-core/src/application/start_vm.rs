//! StartVM (FR1.3). Starting a running VM changes nothing; a held one goes on.

use std::sync::Arc;

use super::limits::Limits;
use super::registry::{Operation, Registry};
use super::wait::{Awaited, Fresh, LeaseWait};
use crate::domain::{AppError, Desired, ErrorKind, PowerState, Sighting, VmRecord, VmRef, VmStage};
use crate::ports::Ports;

/// A VM that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// Why its address is not confirmed, if it is not.
    pub note: Option<String>,
}

/// The use case.
#[derive(Debug)]
pub struct StartVm {
    ports: Ports,
    registry: Arc<Registry>,
    limits: Limits,
}

impl StartVm {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, limits: Limits) -> Self {
        Self { ports, registry, limits }
    }

    /// Powers the VM on and waits until its guest has taken its address again.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` (busy, or being deleted), or what libvirt says. A guest that takes
    /// no address in time is a note, not an error: the VM runs.
    pub async fn run(&self, vm: &VmRef) -> Result<Started, AppError> {
        let (operation, record) = self.registry.begin(vm)?;
        let failure = ensure_ready(&record)?;
        if self.registry.power(record.id) == Some(PowerState::Running) {
            return Ok(Started { note: failure });
        }
        self.power_on(&record, operation)
            .await
            .map_err(|error| error.with("vm_id", record.id).with("vm_name", &record.name))
    }

    async fn power_on(&self, record: &VmRecord, operation: Operation) -> Result<Started, AppError> {
        let Ports { clock, network, ledger, hypervisor, .. } = &self.ports;
        if let Some(PowerState::Paused(_)) = self.registry.power(record.id) {
            // Its guest keeps the lease that it has: there is nothing to wait for.
            hypervisor.ensure_started(record.id).await?;
            self.registry.see(record.id, Sighting::Power(PowerState::Running));
            return Ok(Started { note: None });
        }
        let fresh = Fresh::after(network.lease(record.id).await?);
        let running = VmRecord {
            stage: VmStage::Ready { desired: Desired::Running, failure: None },
            started_at: Some(clock.now()),
            ..record.clone()
        };
        ledger.save(&running).await?;
        if let Err(error) = hypervisor.ensure_started(record.id).await {
            // What was asked for did not happen; a later reconcile must not make it happen.
            ledger.save(record).await?;
            return Err(error);
        }
        self.registry.publish(Arc::new(running));
        self.registry.see(record.id, Sighting::Power(PowerState::Running));
        // The VM is what was asked for; who wants to stop it need not wait for its guest.
        drop(operation);
        let wait = LeaseWait { ports: &self.ports, registry: &self.registry, limits: &self.limits };
        let note = match wait.of(record.id, fresh).await {
            Awaited::Leased(_) => None,
            Awaited::Failed(error) => {
                Some(format!("the VM runs, but its address is not confirmed: {error}"))
            }
            Awaited::Down(power) => Some(format!("the VM was started, and is {power} again")),
            Awaited::TooLate => Some(format!(
                "the VM runs, but its guest took no address within {} s; look at its console",
                self.limits.address_timeout.as_secs()
            )),
        };
        Ok(Started { note })
    }
}

/// The failure that a kept VM was created with.
///
/// # Errors
/// `CONFLICT` unless the VM is made.
pub(super) fn ensure_ready(record: &VmRecord) -> Result<Option<String>, AppError> {
    match &record.stage {
        VmStage::Ready { failure, .. } => Ok(failure.clone()),
        VmStage::Creating { .. } | VmStage::Deleting => Err(AppError::new(
            ErrorKind::WrongState,
            format!("VM '{}' was not made or not removed completely", record.name),
        )
        .remedy(format!("remove what is left with: agentctl vm delete {}", record.name))
        .with("vm_id", record.id)),
    }
}
