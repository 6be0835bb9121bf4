//! Disks that are small, and soon full.

use std::path::{Path, PathBuf};

use super::Lab;
use crate::root;

/// What can be done in a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It can be read.
    Read,
    /// It can be written too.
    Write,
}

impl Lab {
    /// A folder in memory that holds that much, of mode 0755, seen by the agent and by the lab alike.
    ///
    /// # Errors
    /// If it can't be mounted.
    pub fn small_folder(&self, name: &str, mib: u32) -> anyhow::Result<PathBuf> {
        let folder = self.folder().join(name);
        let path = folder.display().to_string();
        root::run(["mkdir", "-p", &path])?;
        let options = format!("size={mib}m,mode=0755");
        // From the host, from where it reaches the lab too.
        root::run(["mount", "-t", "tmpfs", "-o", &options, "tmpfs", &path])?;
        Ok(folder)
    }

    /// An active pool of that name in a folder in memory that holds that much, and the folder.
    ///
    /// # Errors
    /// If libvirt refuses it.
    pub async fn small_pool(&self, name: &str, mib: u32) -> anyhow::Result<PathBuf> {
        let folder = self.small_folder(name, mib)?;
        let target = folder.display().to_string();
        self.virsh(&["pool-define-as", name, "dir", "--target", &target]).await?;
        self.virsh(&["pool-start", name]).await?;
        Ok(folder)
    }

    /// Fills a small folder until only so much is left, in KiB. Other folders would fill the host.
    ///
    /// # Errors
    /// If less is left already.
    pub fn fill(&self, folder: &Path, leave_kib: u64) -> anyhow::Result<()> {
        let disk = rustix::fs::statvfs(folder)?;
        let size = disk.f_bavail * disk.f_frsize - leave_kib * 1024;
        let file = filler(folder).display().to_string();
        root::run(["fallocate", "--length", &size.to_string(), &file]).map(drop)
    }

    /// Lets a small folder be written, or only read.
    ///
    /// # Errors
    /// If it is not one, or something writes to it just then.
    pub fn remount(&self, folder: &Path, access: Access) -> anyhow::Result<()> {
        let options = match access {
            Access::Read => "remount,ro",
            Access::Write => "remount,rw",
        };
        root::run(["mount", "-o", options, &folder.display().to_string()]).map(drop)
    }

    /// Makes the room again that [`Self::fill`] took.
    ///
    /// # Errors
    /// If it was not filled.
    pub fn unfill(&self, folder: &Path) -> anyhow::Result<()> {
        root::run(["rm", &filler(folder).display().to_string()]).map(drop)
    }
}

fn filler(folder: &Path) -> PathBuf {
    folder.join("filler")
}
