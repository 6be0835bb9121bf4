//! What is on the host, as `virsh` and the file system tell: compared before and after a test.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::ensure;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// The libvirtd that the tests use.
const URI: &str = "qemu:///system";

/// Who has the host: a test compares all of it before and after, so one process at a time may
/// make VMs, a benchmark included.
const LOCK: &str = "/var/tmp/ghost-e2e.lock";

/// Takes the host for the rest of this process; waits while another process has it.
///
/// # Errors
/// If the lock's file can't be opened.
pub async fn hold() -> anyhow::Result<()> {
    static HELD: OnceCell<std::fs::File> = OnceCell::const_new();
    let take = || async {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(LOCK)?;
        tokio::task::spawn_blocking(move || file.lock().map(|()| file))
            .await?
            .map_err(anyhow::Error::from)
    };
    HELD.get_or_try_init(take).await.map(drop)
}

/// The names of everything that an agent could leave behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    /// What there is now: domains, volumes of pool `default`, static hosts of network `default`,
    /// and the ledger's files in `state`.
    ///
    /// # Errors
    /// If virsh can't tell.
    pub async fn take(state: &Path) -> anyhow::Result<Self> {
        let mut all = BTreeSet::new();
        let domains = virsh(&["list", "--all", "--uuid"]).await?;
        all.extend(domains.split_whitespace().map(|uuid| format!("domain {uuid}")));
        let volumes = virsh(&["vol-list", "--pool", "default"]).await?;
        all.extend(
            volumes
                .lines()
                .filter_map(|l| l.split_whitespace().next())
                .map(|v| format!("volume {v}")),
        );
        let network = virsh(&["net-dumpxml", "default"]).await?;
        all.extend(
            network.lines().filter(|l| l.contains("<host ")).map(|l| format!("dhcp {}", l.trim())),
        );
        if let Ok(files) = std::fs::read_dir(state.join("vms")) {
            all.extend(
                files.flatten().map(|file| format!("record {}", file.file_name().display())),
            );
        }
        Ok(Self(all))
    }

    /// What is there now and was not in `before`.
    #[must_use]
    pub fn since<'a>(&'a self, before: &'a Self) -> Vec<&'a str> {
        self.0.difference(&before.0).map(String::as_str).collect()
    }
}

/// Fails unless the host is as it was.
///
/// # Errors
/// With what is left or gone.
pub async fn ensure_as(before: &Snapshot, state: &Path) -> anyhow::Result<()> {
    let now = Snapshot::take(state).await?;
    ensure!(now.since(before).is_empty(), "left over: {:?}", now.since(before));
    ensure!(before.since(&now).is_empty(), "gone: {:?}", before.since(&now));
    Ok(())
}

/// Runs virsh on the system's libvirtd.
///
/// # Errors
/// With what it complained.
pub async fn virsh(args: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("virsh").args(["-q", "-c", URI]).args(args).output().await?;
    ensure!(output.status.success(), "virsh {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether an address answers to ping.
///
/// # Errors
/// If ping can't be run.
pub async fn answers(address: &str) -> anyhow::Result<bool> {
    let ping = Command::new("ping").args(["-c", "1", "-W", "5", address]).output().await?;
    Ok(ping.status.success())
}

/// Removes whatever bears the id of a VM, by virsh alone; what is not there is no failure.
pub(crate) fn remove_by_force(id: &str) {
    let virsh = |args: &[&str]| {
        let output =
            std::process::Command::new("virsh").args(["-q", "-c", URI]).args(args).output();
        output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default()
    };
    virsh(&["destroy", id]);
    virsh(&["undefine", id, "--nvram"]);
    for line in virsh(&["vol-list", "--pool", "default"]).lines().filter(|line| line.contains(id)) {
        let volume = line.split_whitespace().next().unwrap_or_default();
        virsh(&["vol-delete", volume, "--pool", "default"]);
    }
    for host in virsh(&["net-dumpxml", "default"]).lines().filter(|line| line.contains(id)) {
        virsh(&[
            "net-update",
            "default",
            "delete",
            "ip-dhcp-host",
            host.trim(),
            "--live",
            "--config",
        ]);
    }
}
