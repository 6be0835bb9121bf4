//! What is on the host, as `virsh` and the file system tell: compared before and after a test.

use std::path::{Path, PathBuf};

use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::leaks::{Files, Inventory};
use crate::libvirt::Libvirt;

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

/// Everything that there is on the host, and the ledger's files in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(Inventory);

impl Snapshot {
    /// What there is now.
    ///
    /// # Errors
    /// If virsh can't tell.
    pub async fn take(state: &Path) -> anyhow::Result<Self> {
        let files = Files { state: state.to_owned(), images: PathBuf::new() };
        Inventory::take(&Libvirt::of_the_host(), &files).await.map(Self)
    }

    /// What is there now and was not in `before`, whoever made it.
    #[must_use]
    pub fn since(&self, before: &Self) -> Vec<String> {
        self.0.since(&before.0).iter().map(ToString::to_string).collect()
    }
}

/// Runs virsh on the system's libvirtd.
///
/// # Errors
/// With what it complained.
pub async fn virsh(args: &[&str]) -> anyhow::Result<String> {
    Libvirt::of_the_host().virsh(args).await
}

/// Whether an address answers to ping.
///
/// # Errors
/// If ping can't be run.
pub async fn answers(address: &str) -> anyhow::Result<bool> {
    let ping = Command::new("ping").args(["-c", "1", "-W", "5", address]).output().await?;
    Ok(ping.status.success())
}
