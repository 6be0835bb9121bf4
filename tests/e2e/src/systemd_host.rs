//! A host of a test's own whose first process is systemd, with journald, and the agent installed in it as `make install` does.
//!
//! Invariant: what happens in it stays in it. When the value is dropped, or the test's process dies in whatever way, every
//! process, mount and control group of it ends and its folder goes (`systemd_host/host.sh`).
//!
//! Nothing is built or kept: `/usr` is this host's, read-only; all else is in memory and new each time. Of this host's units
//! it has only those that make a host, so what else is installed here is not started there.

mod journal;

pub use journal::{Entry, field};

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use rustix::process::Pid;
use tempfile::TempDir;

use crate::lab::text_of;
use crate::path_from;
use crate::root;
use crate::wait::{blocking_end, eventually};

/// Longest wait for what takes a host less than ten seconds.
const LIMIT: Duration = Duration::from_secs(60);

const SCRIPT: &str = include_str!("systemd_host/host.sh");

/// What is to be installed, beside the two programs: `packaging/` of the project.
const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../packaging");

/// The service.
pub const UNIT: &str = "ghost-agent";

/// A running host. It ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct SystemdHost(Arc<Spaces>);

#[derive(Debug)]
struct Spaces {
    /// The first process of the namespaces: systemd.
    init: Pid,
    /// What ends with its standard input.
    outer: Option<Child>,
    /// What that says of its failures.
    complaints: File,
}

impl SystemdHost {
    /// Boots it, and waits until systemd says that it runs.
    ///
    /// # Errors
    /// With what is missing, if this host can't give it.
    pub async fn boot() -> anyhow::Result<Self> {
        let spaces = tokio::task::spawn_blocking(Spaces::make).await?;
        let needs = "a host with systemd needs root, util-linux, control groups of version 2 in the kernel, and systemd \
            with journald; remedy: ./dev setup";
        let host = Self(Arc::new(spaces.context(needs)?));
        eventually("systemd that answers", LIMIT, async || {
            ensure!(host.0.lives(), "systemd ended: {}", text_of(&host.0.complaints));
            let asked = host.run(&["systemctl", "is-system-running", "--wait"]).await?;
            Ok(asked.status.success().then_some(()))
        })
        .await
        .context(needs)?;
        Ok(host)
    }

    /// Boots it and installs the agent, not started, with guests emulated: nothing else differs from what an owner gets.
    ///
    /// # Errors
    /// If it can't be installed, with what the script said.
    pub async fn with_agent() -> anyhow::Result<Self> {
        let host = Self::boot().await?;
        host.shell("bash /source/packaging/install.sh '' /usr/local").await?;
        // An agent does not start without usable KVM, unless it is told so.
        host.setting("HYPERVISOR__ACCELERATION", "tcg").await?;
        Ok(host)
    }

    /// Adds a setting to the file that the unit reads, for agents that start from now on.
    ///
    /// # Errors
    /// If it can't be written.
    pub async fn setting(&self, key: &str, value: &str) -> anyhow::Result<()> {
        self.shell(&format!("echo 'GHOST_{key}={value}' >>/etc/ghost/agent.env")).await.map(drop)
    }

    /// Changes the unit by a drop-in of that name.
    ///
    /// # Errors
    /// If systemd does not take it.
    pub async fn drop_in(&self, name: &str, service: &str) -> anyhow::Result<()> {
        let folder = format!("/etc/systemd/system/{UNIT}.service.d");
        let write = format!(
            "mkdir -p {folder} && cat >{folder}/{name}.conf <<'END'\n[Service]\n{service}\nEND\n"
        );
        self.shell(&format!("{write}systemctl daemon-reload")).await.map(drop)
    }

    /// Runs a command line as root in it, within half a minute.
    ///
    /// # Errors
    /// If it can't be run at all.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<Output> {
        let (host, args) = (self.clone(), args.iter().map(|&arg| arg.to_owned()));
        let args: Vec<String> = args.collect();
        tokio::task::spawn_blocking(move || host.0.run(&args)).await?
    }

    /// Runs lines of bash that are to succeed, and gives what they printed.
    ///
    /// # Errors
    /// With what they complained.
    pub async fn shell(&self, lines: &str) -> anyhow::Result<String> {
        let output = self.run(&["bash", "-ec", lines]).await?;
        root::succeeded(lines, &output)
    }

    /// Starts the service, and gives whether systemd says that it did.
    ///
    /// # Errors
    /// If systemd can't be asked.
    pub async fn start(&self) -> anyhow::Result<bool> {
        Ok(self.run(&["systemctl", "start", UNIT]).await?.status.success())
    }

    /// A property of the service, as `systemctl show` has it.
    ///
    /// # Errors
    /// If systemd can't be asked.
    pub async fn property(&self, name: &str) -> anyhow::Result<String> {
        let shown = self.shell(&format!("systemctl show {UNIT} --property={name} --value")).await?;
        Ok(shown.trim().to_owned())
    }

    /// Waits until a property of the service has that value.
    ///
    /// # Errors
    /// With the value that it has, if that does not come.
    pub async fn until(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let mut last = String::new();
        let wanted = format!("{name}={value}");
        let came = eventually(&wanted, LIMIT, async || {
            last = self.property(name).await?;
            Ok((last == value).then_some(()))
        })
        .await;
        came.with_context(|| format!("{name} was '{last}' at last"))
    }

    /// The journal's entries that match, the oldest first: `REQUEST_ID=…`, `-u`, `-p` and the like, as journalctl takes them.
    ///
    /// # Errors
    /// If journalctl refuses them.
    pub async fn journal(&self, matches: &[&str]) -> anyhow::Result<Vec<Entry>> {
        // Without --all what is longer than 4 KiB is null.
        let asked = ["journalctl", "--sync"];
        ensure!(self.run(&asked).await?.status.success(), "journalctl --sync failed");
        let args = ["journalctl", "--no-pager", "--quiet", "--all", "-o", "json"];
        let args: Vec<_> = args.into_iter().chain(matches.iter().copied()).collect();
        let output = self.run(&args).await?;
        journal::entries(&root::succeeded(&format!("{args:?}"), &output)?)
    }

    /// Waits until the journal has an entry that matches, and gives the first.
    ///
    /// # Errors
    /// If it does not come.
    pub async fn entry(&self, matches: &[&str]) -> anyhow::Result<Entry> {
        eventually(&format!("{matches:?} in the journal"), LIMIT, async || {
            Ok(self.journal(matches).await?.into_iter().next())
        })
        .await
    }
}

impl Spaces {
    fn make() -> anyhow::Result<Self> {
        let folder =
            tempfile::Builder::new().prefix("ghost-e2e-systemd-").tempdir_in("/var/tmp")?;
        let (outer, complaints) = Self::spawn(&folder)?;
        let mut this = Self { init: rustix::process::getpid(), outer: Some(outer), complaints };
        let mut said = String::new();
        let stdout = this.outer.as_mut().and_then(|outer| outer.stdout.take());
        BufReader::new(stdout.context("no output")?).read_line(&mut said)?;
        let init = said.trim().parse().ok().and_then(Pid::from_raw);
        let Some(init) = init else {
            // It has ended, or ends: what it complained is the cause.
            let _its_end = this.end();
            anyhow::bail!(text_of(&this.complaints));
        };
        this.init = init;
        // From here on the script removes it.
        let _removed_by_the_script = folder.keep();
        Ok(this)
    }

    fn spawn(folder: &TempDir) -> anyhow::Result<(Child, File)> {
        let script = folder.path().join("host.sh");
        std::fs::write(&script, SCRIPT)?;
        let complaints = tempfile::tempfile()?;
        let mut outer = root::command("bash");
        outer.arg(&script).arg("outer").arg(folder.path());
        outer.arg(path_from("GHOST_E2E_AGENT")?).arg(path_from("GHOST_E2E_AGENTCTL")?);
        outer.arg(Path::new(PACKAGING));
        outer.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone()?);
        // It is to end by its standard input alone, not with a test that is killed as a group.
        let outer = outer.process_group(0).spawn().context("bash as root")?;
        Ok((outer, complaints))
    }

    fn run(&self, args: &[String]) -> anyhow::Result<Output> {
        let init = self.init.to_string();
        let enter = [
            "30", "nsenter", "-t", &init, "-m", "-n", "-p", "-u", "-i", "-C", "--root", "--wd",
            "--",
        ];
        let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin";
        let mut command = root::command("timeout");
        command.args(enter).args(["env", "-i", "HOME=/root", "LC_ALL=C.UTF-8", path]).args(args);
        command.output().with_context(|| format!("cannot run {command:?}"))
    }

    /// Whether its first process has not ended.
    fn lives(&self) -> bool {
        Path::new(&format!("/proc/{}", self.init)).exists()
    }

    /// Ends everything, and gives whether it ended well.
    fn end(&mut self) -> anyhow::Result<()> {
        let Some(mut outer) = self.outer.take() else { return Ok(()) };
        drop(outer.stdin.take());
        let ended = blocking_end(outer, LIMIT)?;
        ensure!(ended.success(), "{ended}: {}", text_of(&self.complaints));
        Ok(())
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        let ended = self.end();
        if !std::thread::panicking() {
            assert!(ended.is_ok(), "the host did not end well: {ended:?}");
        }
    }
}
