//! What the host has, as the kernel tells it. Invariant: a count is never guessed; text that is
//! not understood is an error.

use std::path::Path;

use async_trait::async_trait;
use ghost_core::domain::{AppError, Bytes, ErrorKind};
use ghost_core::ports::{Host, HostFacts, PortResult};

use crate::disk_error::DiskError;

/// The kernel's list of online CPUs (kernel, `Documentation/admin-guide/cputopology.rst`).
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
/// The kernel's memory statistics (proc_meminfo(5)).
const MEMORY: &str = "/proc/meminfo";
/// Made anew by the kernel at each boot (kernel, `Documentation/admin-guide/sysctl/kernel.rst`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The host, read from `/sys` and `/proc` at each call, so that CPUs and memory may come and go.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcHost;

/// The kernel's text was not understood.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(transparent)]
    Read(#[from] DiskError),
    #[error("{path} says '{}', which is not a {expected}", shown.escape_debug())]
    Garbage { path: &'static str, shown: String, expected: &'static str },
}

impl From<HostError> for AppError {
    fn from(error: HostError) -> Self {
        match error {
            HostError::Read(error) => error.into(),
            HostError::Garbage { .. } => Self::new(ErrorKind::Internal, error.to_string())
                .remedy("check that /proc and /sys are the kernel's own"),
        }
    }
}

#[async_trait]
impl Host for ProcHost {
    async fn facts(&self) -> PortResult<HostFacts> {
        let cpus = read(ONLINE_CPUS, "list of CPUs", count_cpus)?;
        let ram = read(MEMORY, "memory statistic", memory_total)?;
        let boot = read(BOOT_ID, "UUID", |text| text.trim().parse().ok())?;
        Ok(HostFacts { cpus, ram, boot })
    }
}

/// Kernel files are made on the fly and never wait for a disk, so that reading them blocks no one.
fn read<T>(
    path: &'static str,
    expected: &'static str,
    parse: fn(&str) -> Option<T>,
) -> Result<T, HostError> {
    let text = std::fs::read_to_string(path).map_err(DiskError::on("read", Path::new(path)))?;
    parse(&text).ok_or_else(|| {
        let shown = text.lines().next().unwrap_or_default().chars().take(80).collect();
        HostError::Garbage { path, shown, expected }
    })
}

/// Counts the CPUs of a list such as `0-3,5,8-9`; `None` if it isn't one.
fn count_cpus(list: &str) -> Option<u32> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    };
    list.trim().split(',').try_fold(0_u32, |sum, part| sum.checked_add(range(part)?))
}

/// Finds `MemTotal:  16384 kB`, where `kB` means KiB; `None` without such a line.
fn memory_total(text: &str) -> Option<Bytes> {
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kib.checked_mul(1024).filter(|&bytes| bytes > 0).map(Bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cpu_list_is_counted_range_by_range() {
        for (list, cpus) in [("0\n", 1), ("0-1\n", 2), ("0-3,5,8-9\n", 7), ("7", 1)] {
            assert_eq!(count_cpus(list), Some(cpus), "{list}");
        }
    }

    #[test]
    fn what_is_no_cpu_list_is_not_counted() {
        for list in ["", "\n", "3-0", "0-", "-1", "0,,1", "a", "0-4294967295", "0 1", "0x1"] {
            assert_eq!(count_cpus(list), None, "{list}");
        }
    }

    #[test]
    fn memory_is_read_in_kib_wherever_its_line_stands() {
        let text = "MemFree:  1 kB\nMemTotal:       16384 kB\nSwapTotal: 9 kB\n";
        assert_eq!(memory_total(text), Some(Bytes(16 << 20)));
    }

    #[test]
    fn memory_without_number_or_unit_is_not_guessed() {
        for text in [
            "",
            "MemTotal:",
            "MemTotal: kB",
            "MemTotal: 1 MB",
            "MemTotal: 0 kB",
            "MemTotal: 99999999999999999999 kB",
            "XMemTotal: 1 kB",
        ] {
            assert_eq!(memory_total(text), None, "{text}");
        }
    }

    #[tokio::test]
    async fn this_host_has_cpus_and_memory() {
        let facts = ProcHost.facts().await.unwrap();
        assert!(facts.cpus >= 1);
        assert!(facts.ram > Bytes(64 << 20));
        assert_eq!(facts.boot, ProcHost.facts().await.unwrap().boot);
        assert!(!facts.boot.is_nil());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parsers_panic(text in "\\PC{0,40}|[0-9,-]{0,40}") {
            let _ = count_cpus(&text);
            let _ = memory_total(&format!("MemTotal:{text} kB"));
        }
    }
}
