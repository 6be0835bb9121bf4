//! Looks at this host; judges nothing.
//!
//! Invariant: every command and connection ends within [`LIMIT`], and a look that fails is itself a fact.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ghost_proto::agentpb::ListVMsRequest;
use tokio::net::UnixStream;
use tokio::process::Command;
use tokio::time::timeout;

use super::host::{Clock, Space};
use super::kvm::{Accounts, Kvm};
use crate::cli::Global;
use crate::connect;
use crate::errors::Failure;

/// A healthy virsh answers within milliseconds.
const LIMIT: Duration = Duration::from_secs(10);
const URI: &str = "qemu:///system";
/// Where the agent keeps its ledger and images (requirements, `agent.state_dir`).
const STATE_DIR: &str = "/var/lib/ghost";

/// What a command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ran {
    /// Exit code 0; its standard output.
    Printed(String),
    /// Another exit code; its standard error.
    Failed(String),
    /// Still running after [`LIMIT`].
    Hung,
    /// There is no such command.
    Missing,
    /// Not tried, since what it needs is not there.
    Skipped,
}

/// What connecting to a unix socket did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Socket {
    Accepts,
    Forbidden,
    Dead,
    Missing,
}

/// What was seen of libvirt.
#[derive(Debug)]
pub(super) struct Libvirt {
    pub(super) version: Ran,
    pub(super) socket: Socket,
    pub(super) virtlogd: Socket,
    pub(super) pool: Ran,
    pub(super) network: Ran,
    pub(super) dnsmasq: bool,
    pub(super) nwfilters: Ran,
}

/// All that was seen.
#[derive(Debug)]
pub(super) struct Facts {
    pub(super) kvm: Kvm,
    pub(super) accounts: Accounts,
    pub(super) libvirt: Libvirt,
    pub(super) state_folder: Option<Space>,
    pub(super) clock: Clock,
    /// How many VMs the agent listed on its first page.
    pub(super) agent: Result<usize, Failure>,
}

impl Facts {
    /// Looks at everything, at the same time where nothing depends on another.
    pub(super) async fn gather(pool: &str, network: &str, global: &Global) -> Self {
        let (libvirt, clock, agent) = tokio::join!(libvirt(pool, network), clock(), agent(global));
        Self {
            kvm: kvm(),
            accounts: accounts(),
            libvirt,
            state_folder: space(Path::new(STATE_DIR)),
            clock,
            agent,
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn kvm() -> Kvm {
    let device = Path::new("/dev/kvm");
    let opened = std::fs::OpenOptions::new().read(true).write(true).open(device);
    let node = device.metadata().ok().map(|node| (node.uid(), node.gid(), node.mode() & 0o777));
    Kvm {
        arch: std::env::consts::ARCH,
        opened: opened.map(drop).map_err(|error| error.kind()),
        node,
        cpuinfo: read("/proc/cpuinfo"),
    }
}

fn accounts() -> Accounts {
    let mut own_groups: Vec<u32> = rustix::process::getgroups()
        .unwrap_or_default()
        .iter()
        .map(|group| group.as_raw())
        .collect();
    own_groups.push(rustix::process::getegid().as_raw());
    Accounts {
        passwd: read("/etc/passwd"),
        group: read("/etc/group"),
        qemu_conf: read("/etc/libvirt/qemu.conf"),
        own_uid: rustix::process::geteuid().as_raw(),
        own_groups,
    }
}

async fn libvirt(pool: &str, network: &str) -> Libvirt {
    let version = virsh(&["version", "--daemon"]).await;
    let rest = async |args: &[&str]| {
        if matches!(version, Ran::Printed(_)) { virsh(args).await } else { Ran::Skipped }
    };
    let pool_args = ["pool-info", "--bytes", pool];
    let network_args = ["net-info", network];
    let (pool, network, nwfilters, modular, monolithic, virtlogd) = tokio::join!(
        rest(&pool_args),
        rest(&network_args),
        rest(&["nwfilter-list"]),
        socket("/run/libvirt/virtqemud-sock"),
        socket("/run/libvirt/libvirt-sock"),
        socket("/run/libvirt/virtlogd-sock"),
    );
    let socket = if modular == Socket::Missing { monolithic } else { modular };
    let dnsmasq = find_program("dnsmasq").is_some();
    Libvirt { version, socket, virtlogd, pool, network, dnsmasq, nwfilters }
}

async fn virsh(args: &[&str]) -> Ran {
    let mut all = vec!["-q", "-c", URI];
    all.extend(args);
    run("virsh", &all).await
}

/// Runs `program`, in English and with nothing to read.
async fn run(program: &str, args: &[&str]) -> Ran {
    let Some(path) = find_program(program) else { return Ran::Missing };
    let output = Command::new(path)
        .args(args)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    match timeout(LIMIT, output).await {
        Err(_) => Ran::Hung,
        Ok(Err(error)) => Ran::Failed(error.to_string()),
        Ok(Ok(output)) if output.status.success() => {
            Ran::Printed(String::from_utf8_lossy(&output.stdout).into_owned())
        }
        Ok(Ok(output)) => Ran::Failed(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// In PATH, or where system programs are that a user's PATH lacks.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).map(|dir| dir.join(name)).find(|path| path.is_file())
}

async fn socket(path: &str) -> Socket {
    match timeout(LIMIT, UnixStream::connect(path)).await {
        Ok(Ok(_)) => Socket::Accepts,
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => Socket::Missing,
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => Socket::Forbidden,
        Ok(Err(_)) | Err(_) => Socket::Dead,
    }
}

/// Of the file system that `path` is on, or will be when it is made.
fn space(path: &Path) -> Option<Space> {
    let there = path.ancestors().find(|each| each.exists())?;
    let found = rustix::fs::statvfs(there).ok()?;
    Some(Space { path: path.to_owned(), free_bytes: found.f_bavail.saturating_mul(found.f_frsize) })
}

/// The kernel's own word first, which any time daemon sets; then chrony's.
async fn clock() -> Clock {
    let (timedatectl, adjtimex, chrony) = tokio::join!(
        run("timedatectl", &["show", "--property=NTPSynchronized", "--value"]),
        run("busybox", &["adjtimex"]),
        run("chronyc", &["-n", "tracking"]),
    );
    Clock { timedatectl, adjtimex, chrony }
}

async fn agent(global: &Global) -> Result<usize, Failure> {
    let agent = connect::connect(global).await?;
    let ask = ListVMsRequest { page_size: 100, ..ListVMsRequest::default() };
    let page = agent
        .call(ask, LIMIT, |mut client, ask| async move { client.list_v_ms(ask).await })
        .await?;
    Ok(page.vms.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_runtime<T>(work: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
    }

    #[test]
    fn what_a_command_did_is_told_apart() {
        on_runtime(async {
            assert_eq!(run("sh", &["-c", "echo $LC_ALL"]).await, Ran::Printed("C\n".to_owned()));
            assert_eq!(
                run("sh", &["-c", "echo no >&2; exit 3"]).await,
                Ran::Failed("no\n".to_owned())
            );
            assert_eq!(run("no-such-program-here", &[]).await, Ran::Missing);
        });
    }

    #[test]
    fn a_socket_that_nobody_serves_is_dead_and_not_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        on_runtime(async {
            assert_eq!(socket(path.to_str().unwrap()).await, Socket::Dead);
            assert_eq!(socket("/no/such/socket").await, Socket::Missing);
        });
    }

    #[test]
    fn space_of_a_folder_to_come_is_that_of_its_ancestor() {
        let folder = tempfile::tempdir().unwrap();
        let wanted = folder.path().join("not/yet");
        let found = space(&wanted).unwrap();
        assert_eq!(found.path, wanted);
        assert!(found.free_bytes > 0);
    }
}
