//! StopVM (FR1.4). Stopping a stopped VM changes nothing.

use std::sync::Arc;

use futures_util::FutureExt as _;

use super::limits::Limits;
use super::registry::Registry;
use super::start_vm::ensure_ready;
use super::steps::logged;
use super::undo;
use super::wait::within;
use crate::domain::{
    AppError, Change, Desired, OffCause, Origin, PowerState, Sighting, VmId, VmRecord, VmRef,
    VmStage,
};
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

    /// Powers the VM off because of the command `origin`.
    ///
    /// # Errors
    /// `NOT_FOUND`, `CONFLICT` (busy, or being deleted), or what libvirt says; the VM shall be what it
    /// was to be before, then.
    pub async fn run(
        &self,
        vm: &VmRef,
        mode: StopMode,
        origin: &Origin,
    ) -> Result<Stopped, AppError> {
        let (_operation, record) = self.registry.begin(vm, Some(origin))?;
        let failure = ensure_ready(&record)?;
        let to = |change| VmRecord {
            stage: VmStage::Ready { desired: Desired::Stopped, change, failure: failure.clone() },
            origin: Some(origin.clone()),
            note: None,
            ..(*record).clone()
        };
        undo::change(&self.ports, &self.registry, to(Change::UnderWay), &record).await?;
        let off = PowerOff { ports: &self.ports, registry: &self.registry, limits: &self.limits };
        let stopped = match off.of(record.id, mode).await {
            Ok(note) => undo::change(&self.ports, &self.registry, to(Change::Done), &record)
                .await
                .map(|()| Stopped { note }),
            Err(error) => Err(undo::give_up(&self.ports, &self.registry, error, &record).await),
        };
        stopped.map_err(|error| error.with("vm_id", record.id).with("vm_name", &record.name))
    }
}

/// Powers guests off. The caller has the VM's lock.
#[derive(Debug)]
pub(super) struct PowerOff<'a> {
    pub(super) ports: &'a Ports,
    pub(super) registry: &'a Registry,
    pub(super) limits: &'a Limits,
}

impl PowerOff<'_> {
    /// Gives a note if the guest did not power itself off.
    pub(super) async fn of(&self, id: VmId, mode: StopMode) -> Result<Option<String>, AppError> {
        let note = match (mode, self.registry.power(id)) {
            // Not only remembered: a start that was given up may yet take effect.
            (_, Some(PowerState::Off(_) | PowerState::Crashed)) => {
                return self.cut(id).await.map(|()| None);
            }
            (StopMode::Force, _) => None,
            // A held guest can't hear the question.
            (StopMode::Graceful, Some(PowerState::Paused(why))) => {
                Some(format!("the guest was paused ({why}): its power was cut"))
            }
            (StopMode::Graceful, Some(PowerState::Running) | None) => {
                self.ports.hypervisor.ask_to_power_off(id).await?;
                tracing::debug!(vm_id = %id, "asked the guest to power off");
                let off = self.registry.until_power(id, PowerState::is_down);
                let off = within(&*self.ports.clock, self.limits.stop_timeout, off);
                match logged(self.ports, "wait for the guest", off.map(Ok)).await? {
                    Some(()) => return Ok(None),
                    None => Some(format!(
                        "the guest did not power off within {} s: its power was cut",
                        self.limits.stop_timeout.as_secs()
                    )),
                }
            }
        };
        self.cut(id).await?;
        self.registry.see(id, Sighting::Power(PowerState::Off(OffCause::Cut)));
        Ok(note)
    }

    async fn cut(&self, id: VmId) -> Result<(), AppError> {
        logged(self.ports, "power off", self.ports.hypervisor.ensure_off(id)).await
    }
}
