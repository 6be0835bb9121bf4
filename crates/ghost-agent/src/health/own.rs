//! What the agent itself takes of the host. Invariant: a number that the kernel does not give is left out, not made up.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The kernel's view of this process (proc_pid_status(5)); kilobytes are KiB there.
const STATUS: &str = "/proc/self/status";

/// Over a shorter time a share of a CPU says nothing.
const SHORTEST: Duration = Duration::from_secs(1);

/// Measures from one look to the next.
#[derive(Debug, Default)]
pub(super) struct Own {
    /// The processor time, and the moment on the monotonic clock, of the last look.
    last: Option<(Duration, Duration)>,
    found: Vec<(&'static str, f64)>,
}

impl Own {
    /// `memory_mb` (10⁶ bytes resident), `threads`, and `cpu_percent` of one CPU since the last look; `now` on the monotonic clock.
    pub(super) fn measure(&mut self, now: Duration) -> &[(&'static str, f64)] {
        let too_soon = |(_, then)| now.saturating_sub(then) < SHORTEST;
        if self.last.is_some_and(too_soon) {
            return &self.found;
        }
        self.found = std::fs::read_to_string(STATUS).map(|text| parse(&text)).unwrap_or_default();
        let cpu = Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default();
        if let Some((cpu_then, then)) = self.last.replace((cpu, now)) {
            let used = cpu.saturating_sub(cpu_then).as_secs_f64();
            let share = used / now.saturating_sub(then).as_secs_f64();
            self.found.push(("cpu_percent", share * 100.0));
        }
        &self.found
    }
}

fn parse(status: &str) -> Vec<(&'static str, f64)> {
    let number = |key: &str| -> Option<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let memory = number("VmRSS:").map(|kib| ("memory_mb", kib * 1024.0 / 1e6));
    let threads = number("Threads:").map(|threads| ("threads", threads));
    memory.into_iter().chain(threads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_threads_are_the_kernels() {
        let text = "Name:\tx\nVmHWM:\t9 kB\nVmRSS:\t   31250 kB\nThreads:\t7\n";
        assert_eq!(parse(text), [("memory_mb", 32.0), ("threads", 7.0)]);
        assert_eq!(parse("Name:\tx\n"), []);
    }

    #[test]
    fn the_first_look_knows_no_share_of_a_cpu_and_one_too_soon_nothing_new() {
        let mut own = Own::default();
        let mut names = |milliseconds| -> Vec<_> {
            let found = own.measure(Duration::from_millis(milliseconds));
            found.iter().map(|(name, _)| *name).collect()
        };
        assert_eq!(names(1000), ["memory_mb", "threads"]);
        assert_eq!(names(1999), ["memory_mb", "threads"]);
        assert_eq!(names(2000), ["memory_mb", "threads", "cpu_percent"]);
        assert_eq!(names(2001), ["memory_mb", "threads", "cpu_percent"]);
    }
}
