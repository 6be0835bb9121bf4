//! Doing what was planned; one line in the log for each.

use std::sync::Arc;

use super::Reconcile;
use super::plan::Action;
use crate::application::registry::Known;
use crate::application::{start_vm, stop_vm, undo};
use crate::domain::{
    AppError, BootMoment, Definition, Desired, ErrorKind, Kept, PowerState, Sighting, Step,
    VmRecord, VmStage,
};
use crate::ports::{DomainSpec, FoundVolumes, Measured};

impl Reconcile {
    /// Does it; the caller has the VM's lock.
    pub(super) async fn act(
        &self,
        vm: &Known,
        action: &Action,
        now: BootMoment,
    ) -> Result<(), AppError> {
        let record = &*vm.record;
        let done = match action {
            Action::Undo(steps) => {
                undo::remove(&self.ports, &self.registry, record, steps).await?;
                "undid a creation that was cut off"
            }
            Action::Remove => {
                undo::remove(&self.ports, &self.registry, record, &Step::ALL).await?;
                self.ports.meter.note(Measured::Deleted);
                "finished a removal that was cut off"
            }
            Action::Redefine => {
                self.redefine(vm).await?;
                "defined a domain again that libvirt had lost"
            }
            Action::Start => {
                self.ports.hypervisor.ensure_started(record.id).await?;
                self.registry.see(record.id, Sighting::Power(PowerState::Running));
                let stage = VmStage::settled(Desired::Running);
                self.save(VmRecord { stage, started: Some(now), note: None, ..record.clone() })
                    .await?;
                "started a VM that was to run"
            }
            Action::Stop => {
                let ports = stop_vm::PowerOff {
                    ports: &self.ports,
                    registry: &self.registry,
                    limits: &self.limits,
                };
                ports.of(record.id, stop_vm::StopMode::Graceful).await?;
                self.settle(record, Desired::Stopped, now).await?;
                "stopped a VM whose stop was cut off"
            }
            Action::Settle(desired) => {
                self.settle(record, *desired, now).await?;
                "recorded that a VM is what it was to be"
            }
            Action::Follow(desired) => {
                self.follow(vm, *desired, now).await?;
                "recorded that a VM was powered on or off past the agent"
            }
        };
        tracing::info!(vm_name = %record.name, vm_id = %record.id, "{done}");
        Ok(())
    }

    async fn redefine(&self, vm: &Known) -> Result<(), AppError> {
        let record = &*vm.record;
        let found = self.ports.storage.find(record.id).await?;
        let FoundVolumes { disk: Some(disk), seed: Some(seed) } = found else {
            let gone = if found.disk.is_none() { "disk" } else { "seed" };
            return Err(AppError::new(
                ErrorKind::HypervisorFailed,
                format!("libvirt has lost the domain, and the pool the VM's {gone}"),
            )
            .remedy(format!(
                "put the volume back, or give the VM up with: agentctl vm delete {}",
                record.name
            )));
        };
        let address = self.ports.network.assign_address(record.id, &record.name).await?;
        let addressed = VmRecord { address: Some(address), ..record.clone() };
        if addressed != *record {
            self.save(addressed.clone()).await?;
        }
        let spec = DomainSpec { record: addressed, disk, seed, address };
        self.ports.hypervisor.define(&spec).await?;
        let kept = Kept { id: record.id, record: None, definition: Definition::Persistent };
        self.registry.kept(&[kept]);
        let asking = self.registry.asking(self.ports.clock.monotonic());
        self.registry.resync(asking, &self.ports.hypervisor.observe().await?);
        Ok(())
    }

    async fn settle(
        &self,
        record: &VmRecord,
        desired: Desired,
        now: BootMoment,
    ) -> Result<(), AppError> {
        let former = record.started.filter(|started| started.boot == now.boot);
        let started = match desired {
            Desired::Running => former.or(Some(now)),
            Desired::Stopped => record.started,
        };
        self.save(VmRecord { stage: VmStage::settled(desired), started, ..record.clone() }).await
    }

    async fn follow(&self, vm: &Known, desired: Desired, now: BootMoment) -> Result<(), AppError> {
        let (note, started) = match (desired, &vm.seen) {
            (Desired::Running, _) => (None, Some(now)),
            (Desired::Stopped, Sighting::Power(PowerState::Off(cause))) => {
                (Some(start_vm::start_again(cause, &vm.record.name)), vm.record.started)
            }
            (Desired::Stopped, _) => (None, vm.record.started),
        };
        let stage = VmStage::settled(desired);
        self.save(VmRecord { stage, note, started, ..(*vm.record).clone() }).await
    }

    async fn save(&self, record: VmRecord) -> Result<(), AppError> {
        self.ports.ledger.save(&record).await?;
        self.registry.publish(Arc::new(record));
        Ok(())
    }
}
