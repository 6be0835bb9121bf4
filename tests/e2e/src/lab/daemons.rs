//! libvirtd's life and death.
//!
//! ```text
//!   running ──kill──▶ dead ──start──▶ running
//!   running ──freeze──▶ frozen ──thaw──▶ running     frozen ──kill──▶ dead
//! ```

use anyhow::{Context as _, ensure};
use rustix::process::Signal;

use super::{LIMIT, Lab, Namespaces};
use crate::processes::Process;
use crate::root;
use crate::wait::eventually;

impl Lab {
    /// Kills libvirtd as `kill -9` does. The guests run on.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn kill_libvirtd(&self) -> anyhow::Result<()> {
        let libvirtd = self.0.libvirtd()?;
        self.kill(|process| process.pid == libvirtd.pid).await
    }

    /// Starts libvirtd, and virtlogd if it does not run, and waits until it answers.
    ///
    /// # Errors
    /// If it runs already, or does not start.
    pub async fn start_libvirtd(&self) -> anyhow::Result<()> {
        let namespaces = self.0.clone();
        tokio::task::spawn_blocking(move || namespaces.start_daemons()).await??;
        eventually("an answer of the lab's libvirtd", LIMIT, async || {
            Ok(self.virsh(&["uri"]).await.ok())
        })
        .await
        .map(drop)
    }

    /// Stops libvirtd from running on, as `kill -STOP` does: it accepts calls and answers none.
    ///
    /// # Errors
    /// If it does not run.
    pub async fn freeze_libvirtd(&self) -> anyhow::Result<()> {
        root::signal(self.0.libvirtd()?.pid, Signal::STOP)?;
        eventually("libvirtd's halt", LIMIT, async || {
            Ok((self.0.libvirtd()?.state == 'T').then_some(()))
        })
        .await
    }

    /// Lets a frozen libvirtd run on.
    ///
    /// # Errors
    /// If there is none.
    pub async fn thaw_libvirtd(&self) -> anyhow::Result<()> {
        root::signal(self.0.libvirtd()?.pid, Signal::CONT)?;
        self.virsh(&["uri"]).await.map(drop)
    }

    /// As if the host's power was cut and came back: every process of the lab is gone, and with them
    /// all that libvirt keeps in `/run`; then libvirtd starts, its network and its pool with it.
    ///
    /// # Errors
    /// If it does not come back.
    pub async fn reboot(&self) -> anyhow::Result<()> {
        self.kill(|_any| true).await?;
        let run = self.folder().join("run");
        self.run(&["find", &run.display().to_string(), "-mindepth", "1", "-delete"]).await?;
        self.run(&["mkdir", "-p", "/run/lock"]).await?;
        self.run(&["ip", "link", "delete", "virbr0"]).await?;
        self.start_libvirtd().await
    }
}

impl Namespaces {
    fn daemons(&self, name: &str) -> Option<Process> {
        self.libvirt.processes().into_iter().find(|process| process.name == name)
    }

    fn libvirtd(&self) -> anyhow::Result<Process> {
        self.daemons("libvirtd").context("the lab's libvirtd does not run")
    }

    fn start_daemons(&self) -> anyhow::Result<()> {
        ensure!(self.daemons("libvirtd").is_none(), "the lab's libvirtd runs already");
        if self.daemons("virtlogd").is_none() {
            self.run(&["virtlogd", "-d"])?;
        }
        // Each returns when its sockets are there.
        self.run(&["libvirtd", "-d"]).map(drop)
    }

    /// Makes libvirtd answer again, whatever a test did to it, so that it can be asked what is left.
    pub(super) fn revive(&self) -> anyhow::Result<()> {
        match self.libvirtd() {
            Ok(libvirtd) => root::signal(libvirtd.pid, Signal::CONT),
            Err(_dead) => self.start_daemons(),
        }
    }
}

impl Lab {
    /// As [`Self::start_libvirtd`] or [`Self::thaw_libvirtd`], whichever it needs, where nothing can be awaited.
    pub(crate) fn revive(&self) -> anyhow::Result<()> {
        self.0.revive()
    }
}
