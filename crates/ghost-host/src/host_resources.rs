//! What the host has, as the kernel tells it. Invariant: a number is never guessed; text that is
//! not understood is an error.
//!
//! | fact | source |
//! |---|---|
//! | CPUs | those online that are also in the affinity of this process, which cpusets narrow |
//! | memory | `MemTotal`, or the lowest memory limit of this process's cgroup and its ancestors |
//! | available memory | `MemAvailable`, never more than the memory |
//! | boot | the kernel's boot id |

mod cgroup;
mod cpus;
mod memory;

use std::io;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use ghost_core::domain::{AppError, Bytes, ErrorKind};
use ghost_core::ports::{Host, HostFacts, PortResult};

use crate::disk_error::DiskError;

/// The kernel's list of online CPUs (kernel, `Documentation/admin-guide/cputopology.rst`).
const ONLINE_CPUS: &str = "/sys/devices/system/cpu/online";
/// `Cpus_allowed_list` is the affinity of the main thread (proc_pid_status(5), cpuset(7)).
const STATUS: &str = "/proc/self/status";
/// The kernel's memory statistics (proc_meminfo(5)).
const MEMORY: &str = "/proc/meminfo";
/// The cgroups of this process (cgroups(7)).
const GROUPS: &str = "/proc/self/cgroup";
/// What is mounted where (proc_pid_mountinfo(5)).
const MOUNTS: &str = "/proc/self/mountinfo";
/// Made anew by the kernel at each boot (kernel, `Documentation/admin-guide/sysctl/kernel.rst`).
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The host, read from `/sys` and `/proc` at each call, so that CPUs and memory may come and go.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcHost;

/// The kernel's text was not understood, or leaves us nothing.
#[derive(Debug, thiserror::Error)]
enum HostError {
    #[error(transparent)]
    Read(#[from] DiskError),
    #[error("{} says '{}', which is not a {expected}", path.display(), shown.escape_debug())]
    Garbage { path: PathBuf, shown: String, expected: &'static str },
    #[error("none of the CPUs that this process may use is online")]
    NoCpu,
}

impl From<HostError> for AppError {
    fn from(error: HostError) -> Self {
        let remedy = match error {
            HostError::Read(error) => return error.into(),
            HostError::Garbage { .. } => "check that /proc and /sys are the kernel's own",
            HostError::NoCpu => "widen the agent's cpuset or CPUAffinity, or put a CPU online",
        };
        Self::new(ErrorKind::Internal, error.to_string()).remedy(remedy)
    }
}

#[async_trait]
impl Host for ProcHost {
    async fn facts(&self) -> PortResult<HostFacts> {
        let online = read(ONLINE_CPUS, "list of CPUs", cpus::parse_list)?;
        let allowed = read(STATUS, "process status with Cpus_allowed_list", cpus::allowed)?;
        let cpus = cpus::usable(&online, &allowed).ok_or(HostError::NoCpu)?;
        let total = read(MEMORY, "memory statistic", memory::total)?;
        let ram = lowest_limit()?.map_or(total, |limit| limit.min(total));
        let boot = read(BOOT_ID, "UUID", |text| text.trim().parse().ok())?;
        Ok(HostFacts { cpus, ram, boot })
    }
}

/// The lowest memory limit that this process is held to, if any.
fn lowest_limit() -> Result<Option<Bytes>, HostError> {
    let mounts = text_of(Path::new(MOUNTS))?;
    let files =
        read(GROUPS, "list of cgroups, or /proc/self/mountinfo no list of mounts", |text| {
            cgroup::limit_files(text, &mounts)
        })?;
    lowest(&files)
}

fn lowest(files: &[PathBuf]) -> Result<Option<Bytes>, HostError> {
    let mut lowest: Option<Bytes> = None;
    for file in files {
        let limit = match text_of(file) {
            Ok(text) => understood(file, &text, "memory limit", cgroup::parse_limit)?,
            // The root of a tree, and a group without the memory controller, have no such file.
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error.into()),
        };
        lowest = lowest.into_iter().chain(limit).min();
    }
    Ok(lowest)
}

/// Kernel files are made on the fly and never wait for a disk, so that reading them blocks no one.
///
/// Lossy, because anyone's mount point may be no UTF-8.
fn text_of(path: &Path) -> Result<String, DiskError> {
    let bytes = std::fs::read(path).map_err(DiskError::on("read", path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn read<T>(
    path: &'static str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, HostError> {
    let path = Path::new(path);
    understood(path, &text_of(path)?, expected, parse)
}

fn understood<T>(
    path: &Path,
    text: &str,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, HostError> {
    parse(text).ok_or_else(|| {
        let shown = text.lines().next().unwrap_or_default().chars().take(80).collect();
        HostError::Garbage { path: path.to_owned(), shown, expected }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_host_has_cpus_and_memory() {
        let facts = ProcHost.facts().await.unwrap();
        assert!(facts.cpus.is_sorted_by(|a, b| a < b) && !facts.cpus.is_empty(), "{facts:?}");
        assert!(facts.ram > Bytes(64 << 20), "{facts:?}");
        assert_eq!(facts.boot, ProcHost.facts().await.unwrap().boot);
        assert!(!facts.boot.is_nil());
    }

    #[test]
    fn the_lowest_limit_of_all_groups_holds() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["own", "missing", "slice", "root"].map(|name| folder.path().join(name));
        std::fs::write(&files[0], "max\n").unwrap();
        assert_eq!(lowest(&files).unwrap(), None);
        std::fs::write(&files[2], "4096\n").unwrap();
        std::fs::write(&files[3], "8192\n").unwrap();
        assert_eq!(lowest(&files).unwrap(), Some(Bytes(4096)));
        std::fs::write(&files[3], "lots\n").unwrap();
        let error = lowest(&files).unwrap_err().to_string();
        assert!(error.ends_with("root says 'lots', which is not a memory limit"), "{error}");
    }

    #[test]
    fn text_that_is_not_understood_is_shown_with_its_file() {
        let error = understood(Path::new("/x/y"), "a\u{1b}\nb", "number", |_| None::<u8>);
        let error = AppError::from(error.unwrap_err()).to_string();
        assert!(error.starts_with("/x/y says 'a\\u{1b}', which is not a number; "), "{error}");
    }
}
