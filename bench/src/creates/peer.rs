//! The peer: what a person types without us. Invariant: it gets the same disk and seed, made by the
//! same calls as the floor's, and is timed to the same lease.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use tokio::process::Command;

use super::bare::{self, volumes};
use super::pattern::{POOL, Pattern};
use super::twin::{NETWORK, Twin};
use crate::virsh::Virsh;

/// Longest run of the command.
const LIMIT: Duration = Duration::from_secs(120);

/// How long it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timing {
    /// From the first call to the lease.
    pub(crate) total: Duration,
}

/// Whether `virt-install` is here.
pub(crate) async fn is_here() -> bool {
    Command::new("virt-install")
        .arg("--version")
        .output()
        .await
        .is_ok_and(|ended| ended.status.success())
}

/// Makes the volumes, imports them with `virt-install`, and waits for the lease.
pub(crate) async fn create(
    virsh: &mut Virsh,
    pattern: &Pattern,
    twin: &Twin,
) -> anyhow::Result<Timing> {
    let calls = volumes(pattern, twin)?;
    let clock = Instant::now();
    for call in &calls {
        virsh.run(call).await?;
    }
    install(twin).await?;
    bare::lease(virsh, &twin.mac).await?;
    Ok(Timing { total: clock.elapsed() })
}

async fn install(twin: &Twin) -> anyhow::Result<()> {
    let mut command = Command::new("virt-install");
    command
        .args(["--connect", "qemu:///system", "--virt-type", "qemu", "--cpu", "mode=maximum"])
        .args(["--import", "--noautoconsole", "--graphics", "none"])
        .args(["--osinfo", "detect=off,require=off", "--memory", "1024", "--vcpus", "1"])
        .args(["--name", &twin.domain(), "--uuid", &twin.id.to_string()])
        .args(["--disk", &format!("vol={POOL}/{},bus=virtio", twin.disk())])
        .args(["--disk", &format!("vol={POOL}/{},bus=virtio,readonly=on", twin.seed())])
        .args(["--network", &format!("network={NETWORK},model=virtio,mac={}", twin.mac)])
        .args(match std::env::consts::ARCH {
            "aarch64" => ["--boot", "uefi"],
            _ => ["--machine", "q35"],
        })
        .kill_on_drop(true);
    let ended = tokio::time::timeout(LIMIT, command.output()).await.context("no end")??;
    ensure!(ended.status.success(), "it failed: {}", String::from_utf8_lossy(&ended.stderr));
    Ok(())
}
