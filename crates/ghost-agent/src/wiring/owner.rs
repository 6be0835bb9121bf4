//! What guests are held to, so that the owner's part stays the owner's: not only counted, but enforced.

use std::num::{NonZeroU32, NonZeroU64};

use ghost_core::domain::{Bytes, Capacity, Gib, Reservation};
use ghost_core::ports::HostFacts;
use ghost_libvirt::{Acceleration, Tuning};

use crate::config::{Config, VmLimits};

/// A VM's weight for CPU time; 1024 is everybody else's.
const CPU_WEIGHT: NonZeroU32 = NonZeroU32::new(256).unwrap();
/// A VM's weight for the disks; 100 is everybody else's.
const IO_WEIGHT: NonZeroU32 = NonZeroU32::new(25).unwrap();
/// What QEMU may take beside its guest's memory: its own code and heap, video memory and the buffers of the devices were 60 to
/// 150 MiB on guests at work; a VM that takes more is killed, so there is room.
const OVERHEAD: u64 = 512 << 20;
/// Under TCG also the cache of translated code, which QEMU bounds at 1 GiB.
const TRANSLATED_CODE: u64 = 1 << 30;

/// What guests are held to on this host.
pub(super) fn tuning(config: &Config, host: &HostFacts, acceleration: Acceleration) -> Tuning {
    let overhead = match acceleration {
        Acceleration::Kvm => OVERHEAD,
        Acceleration::Tcg => OVERHEAD + TRANSLATED_CODE,
    };
    let reserved = reservation(config, host);
    let VmLimits {
        disk_read_mib_per_s,
        disk_write_mib_per_s,
        disk_iops,
        net_in_mib_per_s,
        net_out_mib_per_s,
    } = config.vm_limits;
    Tuning {
        cpus: guests_cpus(host, reserved.cpus),
        cpu_weight: Some(CPU_WEIGHT),
        io_weight: Some(IO_WEIGHT),
        memory_overhead: Some(Bytes(overhead)),
        disk_read_bytes_per_s: disk_read_mib_per_s.and_then(bytes),
        disk_write_bytes_per_s: disk_write_mib_per_s.and_then(bytes),
        disk_iops: disk_iops.and_then(|n| NonZeroU64::new(n.into())),
        net_in_kbytes_per_s: net_in_mib_per_s.and_then(kilobytes),
        net_out_kbytes_per_s: net_out_mib_per_s.and_then(kilobytes),
    }
}

/// Says what of the reservation leaves nothing to VMs.
pub(super) fn warn_of_too_much(config: &Config, host: &HostFacts) {
    let reserved = reservation(config, host);
    let cpus = host.cpus.len();
    if reserved.cpus as usize >= cpus {
        tracing::warn!(
            reserved = reserved.cpus,
            cpus,
            "resources.reserved_cpu is as much as, or more than the host has: no VM can be created; lower it"
        );
    }
    if reserved.ram >= host.ram {
        tracing::warn!(
            reserved = %reserved.ram, ram = %host.ram,
            "resources.reserved_ram_gb is as much as, or more than the host has: no VM can be created; lower it"
        );
    }
}

fn reservation(config: &Config, host: &HostFacts) -> Reservation {
    let cpus = u32::try_from(host.cpus.len()).unwrap_or(u32::MAX);
    // The pool's part is of no matter here, and not known without libvirt.
    config.resources.reservation().of(&Capacity { cpus, ram: host.ram, disk: Bytes(Gib::BYTES) })
}

/// The owner keeps the first CPUs. None are named if he keeps none, or all: then no VM is admitted.
fn guests_cpus(host: &HostFacts, reserved: u32) -> Vec<u32> {
    match reserved {
        0 => Vec::new(),
        reserved => host.cpus.iter().skip(reserved as usize).copied().collect(),
    }
}

fn bytes(mib: u32) -> Option<NonZeroU64> {
    NonZeroU64::new(u64::from(mib) << 20)
}

fn kilobytes(mib: u32) -> Option<NonZeroU32> {
    let kilobytes = (u64::from(mib) << 20).div_ceil(1000);
    NonZeroU32::new(u32::try_from(kilobytes).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn host() -> HostFacts {
        let ram = Bytes(8 * Gib::BYTES);
        HostFacts { cpus: vec![0, 1, 4, 5], ram, boot: Uuid::nil() }
    }

    #[test]
    fn the_owner_keeps_the_first_cpus_that_are_online() {
        assert_eq!(guests_cpus(&host(), 0), Vec::<u32>::new());
        assert_eq!(guests_cpus(&host(), 1), [1, 4, 5]);
        assert_eq!(guests_cpus(&host(), 3), [5]);
        assert_eq!(guests_cpus(&host(), 4), Vec::<u32>::new());
    }

    #[test]
    fn limits_are_given_in_libvirts_units() {
        assert_eq!(bytes(3).map(NonZeroU64::get), Some(3 * 1024 * 1024));
        assert_eq!(kilobytes(1).map(NonZeroU32::get), Some(1049));
        assert_eq!(kilobytes(100_000).map(NonZeroU32::get), Some(104_857_600));
    }
}
