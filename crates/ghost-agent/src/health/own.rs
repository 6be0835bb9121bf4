//! What the agent itself takes of the host. Invariant: a number that the kernel does not give is left out, not made up.

use std::time::Duration;

use crate::own_process::{KIB, Status, cpu_time};

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
        self.found = Status::read().as_ref().map(of).unwrap_or_default();
        let cpu = cpu_time();
        if let Some((cpu_then, then)) = self.last.replace((cpu, now)) {
            let used = cpu.saturating_sub(cpu_then).as_secs_f64();
            let share = used / now.saturating_sub(then).as_secs_f64();
            self.found.push(("cpu_percent", share * 100.0));
        }
        &self.found
    }
}

fn of(status: &Status) -> Vec<(&'static str, f64)> {
    let memory = status.number("VmRSS").map(|kib| ("memory_mb", kib * KIB / 1e6));
    let threads = status.number("Threads").map(|threads| ("threads", threads));
    memory.into_iter().chain(threads).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_threads_are_the_kernels() {
        let status = Status::of("Name:\tx\nVmHWM:\t9 kB\nVmRSS:\t   31250 kB\nThreads:\t7\n");
        assert_eq!(of(&status), [("memory_mb", 32.0), ("threads", 7.0)]);
        assert_eq!(of(&Status::of("Name:\tx\n")), []);
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
