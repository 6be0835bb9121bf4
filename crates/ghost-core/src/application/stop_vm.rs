//! StopVM (FR1.4). Stopping a stopped VM changes nothing.

use std::sync::Arc;

use super::limits::Limits;
use super::registry::Registry;
use super::start_vm::ensure_ready;
use super::wait::within;
use crate::domain::{AppError, Desired, PowerState, Sighting, VmId, VmRecord, VmRef, VmStage};
use crate::ports::Ports;

/// How a VM is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopMode {
    /// The guest is asked, and given time.
    Graceful,
    /// The power is cut at once.
    Force,
}

/// A VM that is off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// Filled if the guest did not power off in time and its power was cut.
    pub note: Option<String>,
}

/// The use case.
#[derive(Debug)]
pub struct StopVm {
    ports: Ports,
    registry: Arc<Registry>,
    limits: Limits,
}

impl StopVm {
    /// Over these ports.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, limits: Limits) -> Self {
        Self { ports, registry, limits }
    }

    /// Powers the VM off.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` (busy, or being deleted), or what libvirt says.
    pub async fn run(&self, vm: &VmRef, mode: StopMode) -> Result<Stopped, AppError> {
        let (_operation, record) = self.registry.begin(vm)?;
        let failure = ensure_ready(&record)?;
        let stopped = Arc::new(VmRecord {
            stage: VmStage::Ready { desired: Desired::Stopped, failure },
            ..(*record).clone()
        });
        self.ports.ledger.save(&stopped).await?;
        self.registry.publish(stopped);
        let note = self.power_off(record.id, mode).await;
        note.map(|note| Stopped { note })
            .map_err(|error| error.with("vm_id", record.id).with("vm_name", &record.name))
    }

    async fn power_off(&self, id: VmId, mode: StopMode) -> Result<Option<String>, AppError> {
        let note = match (mode, self.registry.power(id)) {
            (_, Some(PowerState::Off | PowerState::Crashed)) => return Ok(None),
            (StopMode::Force, _) => None,
            // A held guest can't hear the question.
            (StopMode::Graceful, Some(PowerState::Paused(why))) => {
                Some(format!("the guest was paused ({why}): its power was cut"))
            }
            (StopMode::Graceful, Some(PowerState::Running) | None) => {
                self.ports.hypervisor.ask_to_power_off(id).await?;
                tracing::debug!(vm_id = %id, "asked the guest to power off");
                let off = self.registry.until_power(id, &PowerState::Off);
                match within(&*self.ports.clock, self.limits.stop_timeout, off).await {
                    Some(()) => return Ok(None),
                    None => Some(format!(
                        "the guest did not power off within {} s: its power was cut",
                        self.limits.stop_timeout.as_secs()
                    )),
                }
            }
        };
        self.ports.hypervisor.ensure_off(id).await?;
        self.registry.see(id, Sighting::Power(PowerState::Off));
        Ok(note)
    }
}
