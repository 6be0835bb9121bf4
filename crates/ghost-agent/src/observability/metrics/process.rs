//! The agent as the kernel sees it, under the names that Prometheus' own clients give. Invariant: what can't be read is
//! missing, never 0.

use std::fmt;
use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::catalog as m;
use super::page::{Page, number};

/// Bytes in what `/proc` calls kB.
const KIB: f64 = 1024.0;

pub(super) fn encode(page: &mut Page<'_>, started: f64) -> fmt::Result {
    page.one(&m::START_TIME, started)?;
    page.one(&m::PROCESS_START, started)?;
    page.one(&m::PROCESS_CPU, cpu_seconds())?;
    page.maybe(&m::PROCESS_FDS, open_files())?;
    page.maybe(&m::PROCESS_MAX_FDS, getrlimit(Resource::Nofile).current.map(number))?;
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return Ok(()) };
    page.maybe(&m::PROCESS_RESIDENT, field(&status, "VmRSS:").map(|kib| kib * KIB))?;
    page.maybe(&m::PROCESS_VIRTUAL, field(&status, "VmSize:").map(|kib| kib * KIB))?;
    page.maybe(&m::PROCESS_THREADS, field(&status, "Threads:"))
}

fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is open while it is read.
    Some(number(open.saturating_sub(1)))
}

/// A line `NAME  16384 kB` of proc_pid_status(5), without its unit.
fn field(status: &str, name: &str) -> Option<f64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_by_its_whole_name_and_never_guessed() {
        let status = "VmPeak:\t  9 kB\nVmRSS:\t    42 kB\nThreads:\t7\nVmSize:\tmuch\n";
        assert_eq!(field(status, "VmRSS:"), Some(42.0));
        assert_eq!(field(status, "Threads:"), Some(7.0));
        assert_eq!(field(status, "VmSize:"), None);
        assert_eq!(field(status, "VmSwap:"), None);
    }
}
