//! StartVM (FR1.3). Starting a running VM changes nothing; a held one goes on.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::limits::Limits;
use super::registry::{Operation, Registry};
use super::steps::logged;
use super::undo;
use super::wait::{Awaited, Fresh, LeaseWait};
use crate::domain::{
    AppError, Change, Desired, ErrorKind, Origin, PowerState, Sighting, VmName, VmRecord, VmRef,
    VmStage,
};
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

    /// Powers the VM on because of the command `origin`, and waits until its guest has taken its address
    /// again.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` (busy, or being deleted), or what libvirt says. A guest that takes
    /// no address in time is a note, not an error: the VM runs.
    pub async fn run(&self, vm: &VmRef, origin: &Origin) -> Result<Started, AppError> {
        let (operation, record) = self.registry.begin(vm, Some(origin))?;
        let failure = ensure_ready(&record)?;
        let seen = self.registry.power(record.id);
        // What is only remembered, or only wanted, is not believed.
        let known = self.registry.age(self.ports.clock.monotonic()).is_none();
        if known && seen == Some(PowerState::Running) && is_settled(&record.stage) {
            return Ok(Started { note: failure });
        }
        self.power_on(&record, origin, seen, operation)
            .await
            .map_err(|error| error.with("vm_id", record.id).with("vm_name", &record.name))
    }

    async fn power_on(
        &self,
        record: &VmRecord,
        origin: &Origin,
        seen: Option<PowerState>,
        operation: Operation,
    ) -> Result<Started, AppError> {
        let Ports { network, hypervisor, .. } = &self.ports;
        let fresh = Fresh::after(network.lease(record.id).await?);
        let to = |change| VmRecord {
            stage: VmStage::Ready { desired: Desired::Running, change, failure: None },
            origin: Some(origin.clone()),
            note: None,
            ..record.clone()
        };
        self.save(to(Change::UnderWay), record).await?;
        let start = hypervisor.ensure_started(record.id);
        if let Err(error) = logged(&self.ports, "start", start).await {
            return Err(undo::give_up(&self.ports, &self.registry, error, record).await);
        }
        self.registry.see(record.id, Sighting::Power(PowerState::Running));
        let started = match (&seen, record.started) {
            (Some(PowerState::Paused(_)), Some(started)) => started,
            _ => self.ports.boot_moment().await?,
        };
        self.save(VmRecord { started: Some(started), ..to(Change::Done) }, record).await?;
        if let Some(PowerState::Running | PowerState::Paused(_)) = seen {
            // Its guest keeps the lease that it has: there is nothing to wait for.
            return Ok(Started { note: None });
        }
        // The VM is what was asked for; who wants to stop it need not wait for its guest.
        drop(operation);
        let wait = LeaseWait { ports: &self.ports, registry: &self.registry, limits: &self.limits };
        let lease = wait.of(record.id, fresh).map(Ok);
        let note = match logged(&self.ports, "lease", lease).await? {
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

    async fn save(&self, record: VmRecord, former: &VmRecord) -> Result<(), AppError> {
        undo::change(&self.ports, &self.registry, record, former).await
    }
}

fn is_settled(stage: &VmStage) -> bool {
    match stage {
        VmStage::Ready { desired: Desired::Running, change: Change::Done, .. } => true,
        VmStage::Ready { .. } | VmStage::Creating { .. } | VmStage::Deleting => false,
    }
}

/// What its owner is told of a VM that went off.
pub(super) fn start_again(cause: impl std::fmt::Display, name: &VmName) -> String {
    format!("{cause}; start it again with: agentctl vm start {name}")
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
