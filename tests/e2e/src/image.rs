//! Images that can be templates.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use sha2::{Digest as _, Sha256};
use tokio::process::Command;

use crate::path_from;

/// An image that can be a template.
#[derive(Debug, Clone)]
pub struct Image {
    /// The template's name.
    pub template: &'static str,
    /// The file.
    pub path: PathBuf,
    /// Who gets the SSH keys.
    pub user: &'static str,
}

impl Image {
    /// ghost-mini.
    ///
    /// # Errors
    /// If it was not built.
    pub fn mini() -> anyhow::Result<Self> {
        Ok(Self { template: "mini", path: path_from("GHOST_E2E_GUEST")?, user: "root" })
    }

    /// A full Debian 12.
    ///
    /// # Errors
    /// If it was not built.
    pub fn debian12() -> anyhow::Result<Self> {
        Ok(Self { template: "debian12", path: path_from("GHOST_E2E_DEBIAN12")?, user: "debian" })
    }

    /// A disk without a system, made in `folder`: the firmware finds nothing to boot, and stays.
    ///
    /// # Errors
    /// If it can't be made.
    pub async fn blank(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join("blank.qcow2");
        let mut make = Command::new("qemu-img");
        make.args(["create", "-q", "-f", "qcow2"]).arg(&path).arg("1M");
        let made = make.status().await?;
        ensure!(made.success(), "{make:?} ended with {made}");
        Ok(Self { template: "mini", path, user: "root" })
    }

    /// Its row of a catalogue.
    ///
    /// # Errors
    /// If it can't be read.
    pub fn row(&self) -> anyhow::Result<String> {
        let image = std::fs::read(&self.path).with_context(|| self.path.display().to_string())?;
        let checksum: String =
            Sha256::digest(&image).iter().map(|byte| format!("{byte:02x}")).collect();
        let (name, arch, url, user) =
            (self.template, std::env::consts::ARCH, self.path.display(), self.user);
        Ok(format!(
            "- name: {name}\n  arch: {arch}\n  url: file://{url}\n  checksum: sha256:{checksum}\n  default_user: {user}\n"
        ))
    }
}
