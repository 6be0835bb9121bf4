//! libvirt's numbers for a domain's power, read once and here only.

use std::time::Duration;

use ghost_core::domain::{Observed, PowerState, VmId};
use virt_sys as c;

use crate::sys::{DomainStats, LifecycleEvent};

/// What a lifecycle event means for a VM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
    /// A definition appeared, powered off.
    Added,
    /// A definition was replaced.
    Redefined,
    /// The definition is gone.
    Undefined,
    /// The power changed.
    Power(PowerState),
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
            c::VIR_DOMAIN_EVENT_STOPPED_CRASHED | c::VIR_DOMAIN_EVENT_STOPPED_FAILED => {
                PowerState::Crashed
            }
            _ => PowerState::Off,
        }),
        c::VIR_DOMAIN_EVENT_CRASHED => Change::Power(PowerState::Crashed),
        // The guest has finished; QEMU ends next, and that is an event of its own.
        c::VIR_DOMAIN_EVENT_SHUTDOWN => Change::None,
        _ => Change::None,
    }
}

fn suspended(detail: u32) -> &'static str {
    match detail {
        c::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED => "user",
        c::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED => "migration",
        c::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR => "I/O error",
        c::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG => "watchdog",
        c::VIR_DOMAIN_EVENT_SUSPENDED_RESTORED => "restored",
        c::VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT => "from snapshot",
        c::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR => "libvirt failed in the middle",
        _ => "unknown",
    }
}

/// Reads a domain's state and why it is in it (`virDomainState`, and its reasons).
fn power(state: i32, reason: i32) -> PowerState {
    let (state, reason) =
        (u32::try_from(state).unwrap_or_default(), u32::try_from(reason).unwrap_or_default());
    match state {
        // Being shut down: the guest has finished, QEMU has not.
        c::VIR_DOMAIN_RUNNING | c::VIR_DOMAIN_BLOCKED | c::VIR_DOMAIN_SHUTDOWN => {
            PowerState::Running
        }
        c::VIR_DOMAIN_PAUSED => PowerState::Paused(paused(reason)),
        c::VIR_DOMAIN_PMSUSPENDED => PowerState::Paused("suspended by the guest"),
        c::VIR_DOMAIN_CRASHED => PowerState::Crashed,
        c::VIR_DOMAIN_SHUTOFF => match reason {
            c::VIR_DOMAIN_SHUTOFF_CRASHED => PowerState::Crashed,
            _ => PowerState::Off,
        },
        _ => PowerState::Off,
    }
}

fn paused(reason: u32) -> &'static str {
    match reason {
        c::VIR_DOMAIN_PAUSED_USER => "user",
        c::VIR_DOMAIN_PAUSED_MIGRATION => "migration",
        c::VIR_DOMAIN_PAUSED_SAVE => "being saved",
        c::VIR_DOMAIN_PAUSED_DUMP => "being dumped",
        c::VIR_DOMAIN_PAUSED_IOERROR => "I/O error",
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
        power: power(stats.state, stats.reason),
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
            state: 1,
            reason: 1,
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
            (5, 1, PowerState::Off),
            (5, 3, PowerState::Crashed),
            (5, 6, PowerState::Off),
            (6, 0, PowerState::Crashed),
        ];
        for (state, reason, expected) in cases {
            assert_eq!(power(state, reason), expected, "{state} {reason}");
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
            (5, 0, Change::Power(PowerState::Off)),
            (5, 1, Change::Power(PowerState::Off)),
            (5, 2, Change::Power(PowerState::Crashed)),
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
    fn an_observation_keeps_the_units() {
        let seen = observed(&stats());
        assert_eq!((seen.cpu_time, seen.ram_used), (Duration::from_millis(2500), Some(300 * 1024)));
    }
}
