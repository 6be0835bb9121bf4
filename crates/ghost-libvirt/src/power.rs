//! libvirt's numbers for a domain's power, read once and here only.

use std::time::Duration;

use ghost_core::domain::{Observed, OffCause, PowerState, VmId};
use virt_sys as c;

use crate::sys::{DomainState, DomainStats, IoErrorEvent, LifecycleEvent};

/// Why a guest is held by an error of its disk, where no more is known.
pub(crate) const IO_ERROR: &str = "I/O error";
/// Why it is held where the pool's file system is full.
const NO_SPACE: &str = "no space left for its disk";

/// What a lifecycle event means for a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A definition appeared: of a domain that is off, or of one that runs and had lost it.
    Added,
    /// A definition was replaced.
    Redefined,
    /// The definition is gone.
    Undefined,
    /// The power changed.
    Power(PowerState),
    /// The power went off, for a reason that the event does not tell.
    Ended,
    /// Nothing that concerns us.
    None,
}

/// Reads an event (`virDomainEventType` and its details).
pub(crate) fn change(event: LifecycleEvent) -> Change {
    let (Ok(kind), Ok(detail)) = (u32::try_from(event.event), u32::try_from(event.detail)) else {
        return Change::None;
    };
    match kind {
        c::VIR_DOMAIN_EVENT_DEFINED if detail == c::VIR_DOMAIN_EVENT_DEFINED_ADDED => Change::Added,
        c::VIR_DOMAIN_EVENT_DEFINED => Change::Redefined,
        c::VIR_DOMAIN_EVENT_UNDEFINED if detail == c::VIR_DOMAIN_EVENT_UNDEFINED_RENAMED => {
            Change::Redefined
        }
        c::VIR_DOMAIN_EVENT_UNDEFINED => Change::Undefined,
        c::VIR_DOMAIN_EVENT_STARTED | c::VIR_DOMAIN_EVENT_RESUMED => {
            Change::Power(PowerState::Running)
        }
        c::VIR_DOMAIN_EVENT_SUSPENDED => Change::Power(PowerState::Paused(suspended(detail))),
        c::VIR_DOMAIN_EVENT_PMSUSPENDED => {
            Change::Power(PowerState::Paused("suspended by the guest"))
        }
        c::VIR_DOMAIN_EVENT_STOPPED => Change::Power(match detail {
            // A guest that died, or one that could not be started: its state knows.
            c::VIR_DOMAIN_EVENT_STOPPED_FAILED => return Change::Ended,
            c::VIR_DOMAIN_EVENT_STOPPED_CRASHED => PowerState::Crashed,
            c::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN => PowerState::Off(OffCause::Guest),
            c::VIR_DOMAIN_EVENT_STOPPED_DESTROYED => PowerState::Off(OffCause::Cut),
            _ => PowerState::Off(OffCause::Unknown),
        }),
        c::VIR_DOMAIN_EVENT_CRASHED => Change::Power(PowerState::Crashed),
        // The guest has finished; QEMU ends next, and that is an event of its own.
        c::VIR_DOMAIN_EVENT_SHUTDOWN => Change::None,
        _ => Change::None,
    }
}

/// Why an I/O error holds the guest; `None` if it does not. libvirt's one reason is `enospc`
/// (`virConnectDomainEventIOErrorReasonCallback`); all others are an empty text.
pub(crate) fn io_error(event: &IoErrorEvent) -> Option<&'static str> {
    let holds = u32::try_from(event.action) == Ok(c::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE);
    holds.then(|| if event.reason == "enospc" { NO_SPACE } else { IO_ERROR })
}

fn suspended(detail: u32) -> &'static str {
    match detail {
        c::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => "user",
        c::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED => "migration",
        c::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => IO_ERROR,
        c::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "watchdog",
        c::VIR_DOMAIN_EVENT_SUSPENDED_RESTORED => "restored",
        c::VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT => "from snapshot",
        c::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR => "libvirt failed in the middle",
        _ => "unknown",
    }
}

/// Reads a domain's state and why it is in it (`virDomainState`, and its reasons).
pub(crate) fn power(now: DomainState) -> PowerState {
    let reason = u32::try_from(now.reason).unwrap_or_default();
    match u32::try_from(now.state).unwrap_or_default() {
        // Being shut down: the guest has finished, QEMU has not.
        c::VIR_DOMAIN_RUNNING | c::VIR_DOMAIN_BLOCKED | c::VIR_DOMAIN_SHUTDOWN => {
            PowerState::Running
        }
        c::VIR_DOMAIN_PAUSED => PowerState::Paused(paused(reason)),
        c::VIR_DOMAIN_PMSUSPENDED => PowerState::Paused("suspended by the guest"),
        c::VIR_DOMAIN_CRASHED => PowerState::Crashed,
        c::VIR_DOMAIN_SHUTOFF => match reason {
            c::VIR_DOMAIN_SHUTOFF_CRASHED => PowerState::Crashed,
            c::VIR_DOMAIN_SHUTOFF_SHUTDOWN => PowerState::Off(OffCause::Guest),
            c::VIR_DOMAIN_SHUTOFF_DESTROYED => PowerState::Off(OffCause::Cut),
            _ => PowerState::Off(OffCause::Unknown),
        },
        _ => PowerState::Off(OffCause::Unknown),
    }
}

fn paused(reason: u32) -> &'static str {
    match reason {
        c::VIR_DOMAIN_PAUSED_USER => "user",
        c::VIR_DOMAIN_PAUSED_MIGRATION => "migration",
        c::VIR_DOMAIN_PAUSED_SAVE => "being saved",
        c::VIR_DOMAIN_PAUSED_DUMP => "being dumped",
        c::VIR_DOMAIN_PAUSED_IOERROR => IO_ERROR,
        c::VIR_DOMAIN_PAUSED_WATCHDOG => "watchdog",
        c::VIR_DOMAIN_PAUSED_FROM_SNAPSHOT => "from snapshot",
        c::VIR_DOMAIN_PAUSED_SHUTTING_DOWN => "shutting down",
        c::VIR_DOMAIN_PAUSED_SNAPSHOT => "being snapshotted",
        c::VIR_DOMAIN_PAUSED_CRASHED => "the guest crashed",
        c::VIR_DOMAIN_PAUSED_STARTING_UP => "starting up",
        c::VIR_DOMAIN_PAUSED_API_ERROR => "libvirt failed in the middle",
        _ => "unknown",
    }
}

/// Reads a record of the bulk statistics.
pub(crate) fn observed(stats: &DomainStats) -> Observed {
    Observed {
        id: VmId::from(stats.uuid),
        power: power(stats.state),
        cpu_time: Duration::from_nanos(stats.cpu_time.unwrap_or_default()),
        ram_used: ram_used(stats),
    }
}

/// The guest's own account is the best: what it has less what it could hand out. Older balloon
/// drivers only know what is not used for anything.
fn ram_used(stats: &DomainStats) -> Option<u64> {
    let used = match (stats.available, stats.usable) {
        (Some(available), Some(usable)) => available.checked_sub(usable),
        _ => stats.balloon?.checked_sub(stats.unused?),
    };
    used.map(|kib| kib * 1024)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn stats() -> DomainStats {
        DomainStats {
            uuid: Uuid::nil(),
            state: DomainState { state: 1, reason: 1 },
            cpu_time: Some(2_500_000_000),
            balloon: Some(1000),
            available: Some(900),
            usable: Some(600),
            unused: Some(100),
        }
    }

    #[test]
    fn used_memory_is_the_guests_own_account_where_there_is_one() {
        assert_eq!(ram_used(&stats()), Some(300 * 1024));
        assert_eq!(ram_used(&DomainStats { usable: None, ..stats() }), Some(900 * 1024));
        assert_eq!(ram_used(&DomainStats { usable: None, unused: None, ..stats() }), None);
        assert_eq!(ram_used(&DomainStats { usable: Some(901), ..stats() }), None);
    }

    #[test]
    fn states_and_reasons_are_read_as_libvirt_numbers_them() {
        let cases = [
            (1, 1, PowerState::Running),
            (3, 5, PowerState::Paused("I/O error")),
            (3, 1, PowerState::Paused("user")),
            (4, 1, PowerState::Running),
            (5, 0, PowerState::Off(OffCause::Unknown)),
            (5, 1, PowerState::Off(OffCause::Guest)),
            (5, 2, PowerState::Off(OffCause::Cut)),
            (5, 3, PowerState::Crashed),
            (5, 6, PowerState::Off(OffCause::Unknown)),
            (6, 0, PowerState::Crashed),
        ];
        for (state, reason, expected) in cases {
            assert_eq!(power(DomainState { state, reason }), expected, "{state} {reason}");
        }
    }

    #[test]
    fn events_are_read_as_libvirt_numbers_them() {
        let cases = [
            (0, 0, Change::Added),
            (0, 1, Change::Redefined),
            (1, 0, Change::Undefined),
            (2, 0, Change::Power(PowerState::Running)),
            (3, 2, Change::Power(PowerState::Paused("I/O error"))),
            (4, 0, Change::Power(PowerState::Running)),
            (5, 0, Change::Power(PowerState::Off(OffCause::Guest))),
            (5, 1, Change::Power(PowerState::Off(OffCause::Cut))),
            (5, 2, Change::Power(PowerState::Crashed)),
            (5, 4, Change::Power(PowerState::Off(OffCause::Unknown))),
            (5, 5, Change::Ended),
            (6, 1, Change::None),
            (99, 0, Change::None),
            (-1, 0, Change::None),
        ];
        for (event, detail, expected) in cases {
            assert_eq!(
                change(LifecycleEvent { uuid: Uuid::nil(), event, detail }),
                expected,
                "{event} {detail}"
            );
        }
    }

    #[test]
    fn an_io_error_that_holds_the_guest_has_a_reason_and_one_that_does_not_has_none() {
        let cases = [
            (1, "enospc", Some("no space left for its disk")),
            (1, "", Some("I/O error")),
            (0, "enospc", None),
            (2, "", None),
        ];
        for (action, reason, expected) in cases {
            let event = IoErrorEvent { uuid: Uuid::nil(), action, reason: reason.to_owned() };
            assert_eq!(io_error(&event), expected, "{action} {reason}");
        }
    }

    #[test]
    fn an_observation_keeps_the_units() {
        let seen = observed(&stats());
        assert_eq!((seen.cpu_time, seen.ram_used), (Duration::from_millis(2500), Some(300 * 1024)));
    }
}
