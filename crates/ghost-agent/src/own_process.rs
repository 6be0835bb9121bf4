//! This process as the kernel sees it. Invariant: what can't be read is missing, never 0.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Bytes in what `/proc` calls kB.
pub(crate) const KIB: f64 = 1024.0;

/// `/proc/self/status` (proc_pid_status(5)).
#[derive(Debug)]
pub(crate) struct Status(String);

impl Status {
    /// Now.
    pub(crate) fn read() -> Option<Self> {
        std::fs::read_to_string("/proc/self/status").ok().map(Self)
    }

    /// As it would be with that text.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The number of a line `NAME:  16384 kB`, without its unit.
    pub(crate) fn number(&self, name: &str) -> Option<f64> {
        let line = self.0.lines().find_map(|line| line.strip_prefix(name))?;
        line.strip_prefix(':')?.split_ascii_whitespace().next()?.parse().ok()
    }
}

/// The processor time that it has used.
pub(crate) fn cpu_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ProcessCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_by_its_whole_name_and_never_guessed() {
        let text = "VmPeak:\t  9 kB\nVmRSS:\t    42 kB\nThreads:\t7\nVmSize:\tmuch\n";
        let status = Status::of(text);
        assert_eq!(status.number("VmRSS"), Some(42.0));
        assert_eq!(status.number("Threads"), Some(7.0));
        assert_eq!(status.number("Thread"), None);
        assert_eq!(status.number("VmSize"), None);
        assert_eq!(status.number("VmSwap"), None);
    }
}
