//! libvirt's numbers for a domain's power, read once and here only.

use std::time::Duration;

use ghost_core::domain::{Observed, OffCause, PowerState, Traffic, VmId};
use virt_sys as c;

use crate::domain_xml::OVERLAY;
use crate::sys::{DiskStats, DomainState, DomainStats, IoErrorEvent, LifecycleEvent, NetStats};

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
    let power = power(stats.state);
    // libvirt tells some other cgroup's of a domain that is off.
    let cpu_time = stats.cpu_time.filter(|_| !power.is_down()).unwrap_or_default();
    Observed {
        id: VmId::from(stats.uuid),
        power,
        cpu_time: Duration::from_nanos(cpu_time),
        ram_used: ram_used(stats),
        traffic: traffic(stats),
    }
}

/// Bytes in the KiB that libvirt counts memory in.
const KIB: u64 = 1024;

/// The guest's own account is the best: what it has less what it could hand out. Older balloon
/// drivers only know what is not used for anything. A guest whose driver says nothing, or that has
/// none, has at most what QEMU holds of the host's memory (its resident set), and never more than the
/// balloon leaves to it: an upper bound, for QEMU's own memory is in it, and what the guest has let go of.
fn ram_used(stats: &DomainStats) -> Option<u64> {
    let told = match (stats.available, stats.usable) {
        (Some(available), Some(usable)) => available.checked_sub(usable),
        _ => stats.balloon.zip(stats.unused).and_then(|(has, unused)| has.checked_sub(unused)),
    };
    let most = || stats.rss.zip(stats.balloon).map(|(rss, has)| rss.min(has));
    told.or_else(most).map(|kib| kib * KIB)
}

/// Interfaces are summed up; of the disks only the overlay counts, for nothing is ever written to the
/// seed.
fn traffic(stats: &DomainStats) -> Traffic {
    let sum = |of: fn(&NetStats) -> Option<u64>| stats.nets.iter().filter_map(of).sum();
    let overlay = stats.disks.iter().find(|disk| disk.target == OVERLAY);
    let disk = |of: fn(&DiskStats) -> Option<u64>| overlay.and_then(of).unwrap_or_default();
    Traffic {
        net_rx: sum(|net| net.rx),
        net_tx: sum(|net| net.tx),
        disk_read: disk(|disk| disk.read),
        disk_written: disk(|disk| disk.written),
        disk_used: disk(disk_used),
        host_ram: stats.rss.unwrap_or_default() * KIB,
    }
}

/// What the file takes of its file system; which field that is depends on who told it.
fn disk_used(disk: &DiskStats) -> Option<u64> {
    match disk.read {
        Some(_told_by_qemu) => disk.physical,
        None => disk.allocation,
    }
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
            rss: Some(800),
            disks: vec![disk("vdb", Some(7)), disk("vda", Some(10))],
            nets: vec![NetStats { rx: Some(1), tx: Some(2) }, NetStats { rx: Some(30), tx: None }],
        }
    }

    fn disk(target: &str, read: Option<u64>) -> DiskStats {
        let (written, allocation, physical) = (read.map(|n| n + 1), Some(100), Some(200));
        DiskStats { target: target.to_owned(), read, written, allocation, physical }
    }

    #[test]
    fn used_memory_is_the_guests_own_account_where_there_is_one() {
        assert_eq!(ram_used(&stats()), Some(300 * 1024));
        assert_eq!(ram_used(&DomainStats { usable: None, ..stats() }), Some(900 * 1024));
    }

    #[test]
    fn a_guest_that_tells_nothing_uses_at_most_what_qemu_holds_and_what_it_was_given() {
        let silent = || DomainStats { usable: None, unused: None, ..stats() };
        assert_eq!(ram_used(&silent()), Some(800 * 1024));
        assert_eq!(ram_used(&DomainStats { rss: Some(1001), ..silent() }), Some(1000 * 1024));
        assert_eq!(ram_used(&DomainStats { rss: None, ..silent() }), None);
        assert_eq!(ram_used(&DomainStats { balloon: None, ..silent() }), None);
        assert_eq!(ram_used(&DomainStats { usable: Some(901), ..stats() }), Some(800 * 1024));
    }

    #[test]
    fn traffic_is_of_all_interfaces_and_of_the_overlay_alone() {
        let expected = Traffic {
            net_rx: 31,
            net_tx: 2,
            disk_read: 10,
            disk_written: 11,
            disk_used: 200,
            host_ram: 800 * 1024,
        };
        assert_eq!(observed(&stats()).traffic, expected);
        let nothing = DomainStats { rss: None, disks: Vec::new(), nets: Vec::new(), ..stats() };
        assert_eq!(observed(&nothing).traffic, Traffic::default());
    }

    #[test]
    fn what_a_disk_takes_is_told_by_another_field_when_qemu_does_not_answer() {
        let off = DomainStats { disks: vec![disk("vda", None)], ..stats() };
        assert_eq!(observed(&off).traffic.disk_used, 100);
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
    fn a_domain_that_is_off_uses_no_cpu_time_whatever_libvirt_says() {
        let off = DomainStats { state: DomainState { state: 5, reason: 1 }, ..stats() };
        assert_eq!(observed(&off).cpu_time, Duration::ZERO);
    }

    #[test]
    fn an_observation_keeps_the_units() {
        let seen = observed(&stats());
        assert_eq!((seen.cpu_time, seen.ram_used), (Duration::from_millis(2500), Some(300 * 1024)));
    }
}
