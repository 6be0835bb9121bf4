//! What the numbers were measured on, and how busy it was. Invariant: nothing that tells which host it was.

use std::fmt;

use anyhow::Context as _;
use ghost_e2e::host::virsh;
use serde::Serialize;

/// The host.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Host {
    arch: &'static str,
    cpus: usize,
    memory_gib: u64,
    /// How guests ran.
    acceleration: &'static str,
    libvirt: String,
    /// Domains that ran already, of others.
    running_domains: usize,
    /// Processes that ran or wanted to, on average over 1, 5 and 15 minutes.
    load_before: String,
    load_after: String,
}

impl Host {
    /// Before the first measurement.
    ///
    /// # Errors
    /// If the kernel or libvirt can't tell.
    pub(crate) async fn look() -> anyhow::Result<Self> {
        let memory = std::fs::read_to_string("/proc/meminfo")?;
        let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
        let total = total.and_then(|line| line.split_whitespace().next());
        let kb: u64 = total.context("/proc/meminfo has no MemTotal")?.parse()?;
        Ok(Self {
            arch: std::env::consts::ARCH,
            cpus: std::thread::available_parallelism()?.get(),
            memory_gib: kb.div_ceil(1 << 20),
            acceleration: "tcg",
            libvirt: virsh(&["--version"]).await?.trim().to_owned(),
            running_domains: virsh(&["list", "--uuid"]).await?.split_whitespace().count(),
            load_before: load()?,
            load_after: String::new(),
        })
    }

    /// After the last.
    ///
    /// # Errors
    /// If the kernel can't tell.
    pub(crate) fn look_again(&mut self) -> anyhow::Result<()> {
        self.load_after = load()?;
        Ok(())
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { arch, cpus, memory_gib, acceleration, libvirt, running_domains, .. } = self;
        write!(
            f,
            "{arch}, {cpus} CPUs, {memory_gib} GiB, guests on {acceleration}, libvirt {libvirt}; load {} before, {} after; \
             {running_domains} other domains ran",
            self.load_before, self.load_after
        )
    }
}

fn load() -> anyhow::Result<String> {
    let load = std::fs::read_to_string("/proc/loadavg")?;
    Ok(load.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
}
