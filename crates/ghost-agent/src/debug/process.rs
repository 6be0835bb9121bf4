//! The daemon itself: which build, since when, what it takes.

use std::time::Instant;

use super::host::read;
use super::{Sheet, Sheets};

/// `agent/version.txt`, `agent/status.txt` and `agent/limits.txt`.
pub fn facts(began: Instant) -> Sheets {
    let descriptors = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    let version = format!(
        "ghost-agent {}\nprocess {}\nup {} s\nopen files {descriptors}\n",
        crate::VERSION,
        std::process::id(),
        began.elapsed().as_secs()
    );
    Ok(vec![
        Sheet::new("agent/version.txt", version),
        // Threads and VmRSS are among it (proc(5), `/proc/pid/status`).
        Sheet::new("agent/status.txt", read("/proc/self/status")),
        Sheet::new("agent/limits.txt", read("/proc/self/limits")),
    ])
}
