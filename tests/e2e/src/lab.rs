//! A libvirtd of a test's own, to kill, freeze and starve: with its own network `default`, pool
//! `default`, processes and firewall, in namespaces of its own.
//!
//! Invariant: what happens in a lab stays in it. When the value is dropped, or the test's process
//! dies in whatever way, everything in the lab ends and its folder goes (`lab/lab.sh`).
//!
//! The agent runs outside and reaches it by [`Lab::uri`]; paths are the same inside and outside.

mod daemons;
mod events;
mod space;

pub use space::Access;

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal};

use crate::libvirt::Libvirt;
use crate::processes::Process;
use crate::root;
use crate::wait::{blocking_end, eventually};

pub use events::Events;

/// Longest wait for what takes a lab less than a second.
const LIMIT: Duration = Duration::from_secs(30);

const SCRIPT: &str = include_str!("lab/lab.sh");

/// The network of every lab. No other network can be in its way.
const NETWORK: &str = "<network><name>default</name><bridge name='virbr0'/><forward mode='nat'/>\
    <ip address='192.168.122.1' netmask='255.255.255.0'>\
    <dhcp><range start='192.168.122.2' end='192.168.122.254'/></dhcp></ip></network>";

/// A running lab. It ends when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Lab(Arc<Namespaces>);

#[derive(Debug)]
struct Namespaces {
    folder: PathBuf,
    /// The first process of the namespaces.
    init: Pid,
    /// What ends with its standard input.
    outer: Option<Child>,
    /// What that says of its failures.
    complaints: File,
    libvirt: Libvirt,
}

impl Lab {
    /// Makes the namespaces and starts libvirt in them, with its network and pool.
    ///
    /// # Errors
    /// If the host does not let root make them, or libvirt does not start.
    pub async fn start() -> anyhow::Result<Self> {
        let lab = tokio::task::spawn_blocking(Namespaces::make).await?;
        let lab =
            Self(Arc::new(lab.context("a lab needs root, unshare (util-linux) and libvirtd")?));
        lab.start_libvirtd().await?;
        lab.furnish().await?;
        Ok(lab)
    }

    async fn furnish(&self) -> anyhow::Result<()> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        let (network, pool) = (path("network.xml"), path("pool"));
        self.virsh(&["net-define", &network]).await?;
        self.virsh(&["net-start", "default"]).await?;
        self.virsh(&["net-autostart", "default"]).await?;
        self.virsh(&["pool-define-as", "default", "dir", "--target", &pool]).await?;
        self.virsh(&["pool-start", "default"]).await?;
        self.virsh(&["pool-autostart", "default"]).await.map(drop)
    }

    /// Where its libvirtd listens, for the agent's `libvirt.uri`.
    #[must_use]
    pub fn uri(&self) -> &str {
        self.0.libvirt.uri()
    }

    /// Its folder; root's.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.0.folder
    }

    /// Its libvirt.
    #[must_use]
    pub fn libvirt(&self) -> &Libvirt {
        &self.0.libvirt
    }

    /// Runs virsh on its libvirtd.
    ///
    /// # Errors
    /// With what it complained.
    pub async fn virsh(&self, args: &[&str]) -> anyhow::Result<String> {
        self.libvirt().virsh(args).await
    }

    /// Runs a command line as root in the lab, within half a minute, and gives what it printed.
    ///
    /// # Errors
    /// With what it complained.
    pub async fn run(&self, args: &[&str]) -> anyhow::Result<String> {
        let (lab, args) = (self.clone(), args.iter().map(|&arg| arg.to_owned()));
        let args: Vec<String> = args.collect();
        tokio::task::spawn_blocking(move || lab.0.run(&args)).await?
    }

    /// Whether a guest answers to ping.
    pub async fn answers(&self, address: &str) -> bool {
        self.run(&["ping", "-c", "1", "-W", "5", address]).await.is_ok()
    }

    /// The QEMU process of a running VM.
    ///
    /// # Errors
    /// If there is none.
    pub fn qemu(&self, vm_id: &str) -> anyhow::Result<Pid> {
        let qemus = self.libvirt().qemus();
        let qemu = qemus.into_iter().find(|qemu| qemu.line.contains(vm_id));
        Ok(qemu.with_context(|| format!("no QEMU runs VM {vm_id}"))?.pid)
    }

    /// Kills the QEMU process of a running VM, and waits for its end.
    ///
    /// # Errors
    /// If there is none.
    pub async fn kill_qemu(&self, vm_id: &str) -> anyhow::Result<()> {
        let qemu = self.qemu(vm_id)?;
        self.kill(|process| process.pid == qemu).await
    }

    /// Stops the QEMU process of a running VM from running on, as `kill -STOP` does: libvirt gets no answer from
    /// it.
    ///
    /// # Errors
    /// If there is none.
    pub fn freeze_qemu(&self, vm_id: &str) -> anyhow::Result<()> {
        root::signal(self.qemu(vm_id)?, Signal::STOP)
    }

    /// Lets a frozen QEMU run on.
    ///
    /// # Errors
    /// If there is none.
    pub fn thaw_qemu(&self, vm_id: &str) -> anyhow::Result<()> {
        root::signal(self.qemu(vm_id)?, Signal::CONT)
    }

    /// Kills the lab's processes that match, and waits for their ends.
    async fn kill(&self, matches: impl Fn(&Process) -> bool) -> anyhow::Result<()> {
        eventually("the end of what was killed", LIMIT, async || {
            let mut all = self.libvirt().processes();
            all.retain(&matches);
            for process in &all {
                // It may have ended since; one that can't be killed is still there at the end.
                let _gone = root::signal(process.pid, Signal::KILL);
            }
            Ok(all.is_empty().then_some(()))
        })
        .await
    }
}

impl Namespaces {
    fn make() -> anyhow::Result<Self> {
        // QEMU's user must be able to reach the images: /tmp may be private to a service.
        let folder = tempfile::Builder::new().prefix("ghost-e2e-lab-").tempdir_in("/var/tmp")?;
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        let script = folder.path().join("lab.sh");
        std::fs::write(&script, SCRIPT)?;
        std::fs::write(folder.path().join("network.xml"), NETWORK)?;
        let mut outer = root::command("bash");
        outer.arg(&script).arg("outer").arg(folder.path());
        outer.stdin(Stdio::piped()).stdout(Stdio::piped());
        let complaints = tempfile::tempfile()?;
        outer.stderr(complaints.try_clone()?);
        // It is to end by its standard input alone, not with a test that is killed as a group.
        let mut outer = outer.process_group(0).spawn()?;
        let mut said = String::new();
        BufReader::new(outer.stdout.take().context("no output")?).read_line(&mut said)?;
        let init = said.trim().parse().ok().and_then(Pid::from_raw);
        let init = init.with_context(|| text_of(&complaints))?;
        let socket = folder.path().join("run/libvirt/libvirt-sock");
        let uri = format!("qemu:///system?socket={}", socket.display());
        let libvirt = Libvirt::of_a_lab(uri, init);
        // From here on the script removes it.
        Ok(Self { folder: folder.keep(), init, outer: Some(outer), complaints, libvirt })
    }

    fn run<S: AsRef<OsStr>>(&self, args: &[S]) -> anyhow::Result<String> {
        let init = self.init.to_string();
        let enter = ["nsenter", "-t", &init, "-m", "-n", "-p", "--"].map(OsStr::new);
        root::run(enter.into_iter().chain(args.iter().map(AsRef::as_ref)))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        let Some(mut outer) = self.outer.take() else { return };
        drop(outer.stdin.take());
        let ended = blocking_end(outer, LIMIT);
        if !std::thread::panicking() {
            let ended = ended.is_ok_and(|status| status.success());
            assert!(ended, "the lab did not end well: {}", text_of(&self.complaints));
        }
    }
}

/// All that was written to a file.
pub(crate) fn text_of(mut file: &File) -> String {
    let mut text = String::new();
    let read = file.rewind().and_then(|()| file.read_to_string(&mut text));
    read.map_or_else(|error| error.to_string(), |_bytes| text.trim().to_owned())
}
