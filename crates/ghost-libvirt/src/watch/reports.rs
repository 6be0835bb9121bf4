//! What an event means for a VM, and what has to be remembered to tell it.
//!
//! Invariant: only our domains are reported; each end of a definition, and each end of a domain without
//! one, is reported once.

use std::collections::HashSet;
use std::sync::Arc;

use ghost_core::domain::{PowerState, VmId, cause};
use ghost_core::ports::HypervisorEvent;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::io_errors::IoErrors;
use crate::ours::Ours;
use crate::power::{self, Change, IO_ERROR};
use crate::sys::{Conn, DomainEvent, LibvirtError, LifecycleEvent};

/// What the watch keeps true of our domains.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    /// Which they are.
    pub(crate) ours: Arc<Ours>,
    /// Why some of them are held.
    pub(crate) io_errors: Arc<IoErrors>,
}

impl Memory {
    /// Anything may have happened while there was no connection.
    pub(super) fn relearn(&self, conn: &Conn) -> Result<(), LibvirtError> {
        self.ours.relearn(conn)?;
        if self.io_errors.is_empty() {
            return Ok(());
        }
        let stats = conn.stats()?;
        let is_held = |power| power == PowerState::Paused(IO_ERROR);
        let held = stats.iter().filter(|one| is_held(power::power(one.state)));
        self.io_errors.keep_only(&held.map(|one| one.uuid).collect::<HashSet<_>>());
        Ok(())
    }
}

/// Where events are told.
pub(super) struct Reports {
    pub(super) memory: Memory,
    pub(super) events: broadcast::Sender<HypervisorEvent>,
}

impl Reports {
    /// Tells what the event means for a VM, if it means anything.
    pub(super) fn report(&self, conn: &Conn, event: DomainEvent) {
        match event {
            DomainEvent::Lifecycle(event) => self.report_change(conn, event),
            DomainEvent::IoError(event) => {
                if let Some(reason) = power::io_error(&event) {
                    self.memory.io_errors.remember(event.uuid, reason);
                }
            }
        }
    }

    fn report_change(&self, conn: &Conn, event: LifecycleEvent) {
        let uuid = event.uuid;
        match power::change(event) {
            Change::None => {}
            Change::Undefined => self.report_undefined(conn, uuid),
            Change::Redefined => drop(self.memory.ours.forget(uuid)),
            Change::Added => {
                self.memory.ours.forget(uuid);
                match conn.domain(&uuid).and_then(|domain| domain.state()) {
                    Ok(state) => self.report_power(conn, uuid, power::power(state)),
                    Err(error) => untold(uuid, &error),
                }
            }
            Change::Ended => {
                let now = conn.domain(&uuid).and_then(|domain| domain.state()).map(power::power);
                // One that runs again by now is told of by an event of its own.
                let ended = now.ok().filter(PowerState::is_down).unwrap_or(PowerState::Crashed);
                self.report_change_of_power(conn, uuid, ended);
            }
            Change::Power(power) => self.report_change_of_power(conn, uuid, power),
        }
    }

    fn report_change_of_power(&self, conn: &Conn, uuid: Uuid, power: PowerState) {
        self.memory.io_errors.note(uuid, &power);
        let ended = power.is_down();
        self.report_power(conn, uuid, power);
        // One without a definition ends with its power, and nobody says so.
        if ended && conn.domain(&uuid).is_err_and(|error| error.is_missing()) {
            self.report_undefined(conn, uuid);
        }
    }

    fn report_undefined(&self, conn: &Conn, uuid: Uuid) {
        if self.memory.ours.forget(uuid) == Some(true) {
            // It may still run; then its end is to be told.
            self.is_ours(conn, uuid);
            self.send(HypervisorEvent::Undefined(VmId::from(uuid)));
        }
    }

    fn report_power(&self, conn: &Conn, uuid: Uuid, power: PowerState) {
        if self.is_ours(conn, uuid) {
            let power = self.memory.io_errors.explain(uuid, power);
            self.send(HypervisorEvent::Power(VmId::from(uuid), power));
        }
    }

    fn is_ours(&self, conn: &Conn, uuid: Uuid) -> bool {
        let ours = self.memory.ours.is_ours(conn, uuid);
        ours.unwrap_or_else(|error| {
            untold(uuid, &error);
            false
        })
    }

    fn send(&self, event: HypervisorEvent) {
        // Nobody may listen yet.
        let _ = self.events.send(event);
    }
}

/// The connection is about to be found lost, and everything is looked at anew; or the domain is gone.
fn untold(uuid: Uuid, error: &LibvirtError) {
    tracing::debug!(error = cause(error), %uuid, "cannot tell what an event says of a domain");
}
