//! The agent as the kernel sees it, under the names that Prometheus' own clients give. Invariant: what can't be read is
//! missing, never 0.

use std::fmt;
use std::fs;

use rustix::process::{Resource, getrlimit};

use super::catalog as m;
use super::page::{Page, number};
use crate::own_process::{KIB, Status, cpu_time};

pub(super) fn encode(page: &mut Page<'_>, started: f64) -> fmt::Result {
    page.one(&m::START_TIME, started)?;
    page.one(&m::PROCESS_START, started)?;
    page.one(&m::PROCESS_CPU, cpu_time().as_secs_f64())?;
    page.maybe(&m::PROCESS_FDS, open_files())?;
    page.maybe(&m::PROCESS_MAX_FDS, getrlimit(Resource::Nofile).current.map(number))?;
    let Some(status) = Status::read() else { return Ok(()) };
    page.maybe(&m::PROCESS_RESIDENT, status.number("VmRSS").map(|kib| kib * KIB))?;
    page.maybe(&m::PROCESS_VIRTUAL, status.number("VmSize").map(|kib| kib * KIB))?;
    page.maybe(&m::PROCESS_THREADS, status.number("Threads"))
}

fn open_files() -> Option<f64> {
    let open = fs::read_dir("/proc/self/fd").ok()?.count();
    // The folder itself is open while it is read.
    Some(number(open.saturating_sub(1)))
}
