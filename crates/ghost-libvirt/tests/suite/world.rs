//! A libvirt to test against, and VMs that leave nothing behind, even when a test fails.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use ghost_core::domain::validation::Violations;
use ghost_core::domain::{
    BaseImage, Bytes, Gib, MacAddr, Metadata, VmId, VmRecord, VmShape, VmSpec,
};
use ghost_core::ports::{DomainSpec, HypervisorEvent};
use ghost_core::testing::samples;
use ghost_libvirt::{Acceleration, ConnectionState, Libvirt, LibvirtConfig};
use tokio::sync::broadcast::Receiver;
use uuid::Uuid;

/// No wait of a test is longer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The agent that the suite plays.
pub(crate) const AGENT: Uuid = Uuid::from_u128(0x5017e);

pub(crate) fn config(uri: &str) -> LibvirtConfig {
    LibvirtConfig {
        uri: uri.to_owned(),
        acceleration: Acceleration::Tcg,
        agent: AGENT,
        ..LibvirtConfig::default()
    }
}

/// Connects and waits until libvirt is there.
pub(crate) async fn connect(config: LibvirtConfig) -> Libvirt {
    let libvirt = Libvirt::connect(config).unwrap();
    reach(&libvirt, &ConnectionState::Connected).await;
    libvirt
}

pub(crate) async fn real() -> Libvirt {
    connect(config("qemu:///system")).await
}

pub(crate) async fn reach(libvirt: &Libvirt, wanted: &ConnectionState) {
    let mut state = libvirt.state();
    let reached = tokio::time::timeout(PATIENCE, state.wait_for(|state| state == wanted)).await;
    assert!(reached.is_ok(), "still {:?} and not {wanted:?}", libvirt.state().borrow());
}

/// Waits for the event; others are skipped.
pub(crate) async fn event(events: &mut Receiver<HypervisorEvent>, wanted: &HypervisorEvent) {
    let seen = skip_until(events, |event| event == wanted).await;
    assert!(seen.is_ok(), "no {wanted:?} among {seen:?}");
}

/// Waits until the loss of the connection is told; gives the reason.
pub(crate) async fn disconnected(events: &mut Receiver<HypervisorEvent>) -> String {
    match skip_until(events, |event| matches!(event, HypervisorEvent::Disconnected(_))).await {
        Ok(HypervisorEvent::Disconnected(reason)) => reason,
        other => panic!("not told: {other:?}"),
    }
}

/// The VM's next event; those of others are skipped.
pub(crate) async fn next_of(events: &mut Receiver<HypervisorEvent>, id: VmId) -> HypervisorEvent {
    let is_its = |event: &HypervisorEvent| match event {
        HypervisorEvent::Power(of, _) | HypervisorEvent::Undefined(of) => *of == id,
        HypervisorEvent::Connected | HypervisorEvent::Disconnected(_) => false,
    };
    match skip_until(events, is_its).await {
        Ok(event) => event,
        Err(skipped) => panic!("nothing was told of it, but {skipped:?}"),
    }
}

async fn skip_until(
    events: &mut Receiver<HypervisorEvent>,
    is_wanted: impl Fn(&HypervisorEvent) -> bool,
) -> Result<HypervisorEvent, Vec<HypervisorEvent>> {
    let mut skipped = Vec::new();
    let search = async {
        loop {
            match events.recv().await.unwrap() {
                event if is_wanted(&event) => return event,
                event => skipped.push(event),
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.map_err(|_| skipped)
}

/// What virsh says at qemu:///system; empty if it fails.
pub(crate) fn virsh(arguments: &[&str]) -> String {
    let output =
        Command::new("virsh").args(["-q", "-c", "qemu:///system"]).args(arguments).output();
    let output = output.expect("virsh is installed by ./dev setup");
    if output.status.success() { String::from_utf8(output.stdout).unwrap() } else { String::new() }
}

/// Defines a domain as somebody else would.
pub(crate) fn define_foreign(xml: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), xml).unwrap();
    virsh(&["define", file.path().to_str().unwrap()]);
}

/// Runs a program as root, by sudo if need be.
fn as_root(arguments: &[&str]) {
    let run = |program: &str, arguments: &[&str]| {
        Command::new(program).args(arguments).output().is_ok_and(|o| o.status.success())
    };
    let done = run(arguments[0], &arguments[1..]) || run("sudo", &[&["-n"], arguments].concat());
    assert!(done, "{arguments:?} failed");
}

/// A pool that only one test has; removed when this is dropped.
pub(crate) struct OwnPool {
    name: String,
    folder: tempfile::TempDir,
    on: FileSystem,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileSystem {
    Shared,
    ItsOwn,
}

impl OwnPool {
    /// One that is defined, and does not run.
    pub(crate) fn inactive() -> Self {
        Self::defined(FileSystem::Shared)
    }

    /// One that runs.
    pub(crate) fn running() -> Self {
        let pool = Self::inactive();
        virsh(&["pool-start", &pool.name]);
        pool
    }

    /// One that runs, and is soon full.
    pub(crate) fn on_a_small_file_system() -> Self {
        let pool = Self::defined(FileSystem::ItsOwn);
        let folder = pool.path();
        as_root(&["mount", "-t", "tmpfs", "-o", "size=4m,mode=0755", "none", &folder]);
        virsh(&["pool-start", &pool.name]);
        pool
    }

    /// Makes its small file system larger.
    pub(crate) fn grow(&self) {
        as_root(&["mount", "-o", "remount,size=32m", &self.path()]);
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn path(&self) -> String {
        self.folder.path().to_str().unwrap().to_owned()
    }

    fn defined(on: FileSystem) -> Self {
        let folder = open_folder();
        let name = format!("ghost-suite-{}", VmId::generate());
        let pool = Self { name, folder, on };
        virsh(&["pool-define-as", &pool.name, "dir", "--target", &pool.path()]);
        pool
    }
}

impl Drop for OwnPool {
    fn drop(&mut self) {
        virsh(&["pool-destroy", &self.name]);
        virsh(&["pool-undefine", &self.name]);
        match self.on {
            FileSystem::Shared => {}
            FileSystem::ItsOwn => as_root(&["umount", "--lazy", &self.path()]),
        }
    }
}

/// A folder that QEMU's user may look into.
fn open_folder() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt;
    let open = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(open).tempdir().unwrap()
}

/// Whatever libvirt has that carries the id.
pub(crate) fn traces(id: VmId) -> String {
    let id = id.to_string();
    virsh(&["pool-refresh", "default"]);
    let all =
        [virsh(&["list", "--all", "--uuid"]), virsh(&["vol-list", "default"]), hosts()].concat();
    all.lines().filter(|line| line.contains(&id)).collect::<Vec<_>>().join("\n")
}

/// The static DHCP hosts of the default network.
pub(crate) fn hosts() -> String {
    let both =
        [virsh(&["net-dumpxml", "default"]), virsh(&["net-dumpxml", "default", "--inactive"])]
            .concat();
    both.lines()
        .filter(|line| line.contains("<host "))
        .fold(String::new(), |all, line| all + line.trim() + "\n")
}

/// A VM's id; everything of it is removed, by virsh, when this is dropped.
#[derive(Debug)]
pub(crate) struct Vm(pub(crate) VmId);

impl Vm {
    pub(crate) fn new() -> Self {
        Self(VmId::generate())
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let id = self.0.to_string();
        virsh(&["destroy", &id]);
        virsh(&["undefine", &id, "--nvram"]);
        virsh(&["pool-refresh", "default"]);
        for volume in virsh(&["vol-list", "default"]).lines().filter(|line| line.contains(&id)) {
            virsh(&["vol-delete", volume.split_whitespace().next().unwrap(), "--pool", "default"]);
        }
        let mac = MacAddr::of(self.0);
        let host = format!("<host mac='{mac}'/>");
        for reach in ["--live", "--config"].iter().filter(|_| hosts().contains(&mac.to_string())) {
            virsh(&["net-update", "default", "delete", "ip-dhcp-host", &host, reach]);
        }
    }
}

/// An empty base image that QEMU's user may read.
pub(crate) struct Base {
    folder: tempfile::TempDir,
}

impl Base {
    pub(crate) fn new() -> Self {
        use std::os::unix::fs::PermissionsExt;
        let base = Self { folder: open_folder() };
        let made = Command::new("qemu-img")
            .args(["create", "-q", "-f", "qcow2"])
            .arg(base.path())
            .arg("64M")
            .status();
        assert!(made.unwrap().success());
        std::fs::set_permissions(base.path(), std::fs::Permissions::from_mode(0o444)).unwrap();
        base
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("base.qcow2")
    }

    pub(crate) fn image(&self) -> BaseImage {
        BaseImage {
            path: self.path(),
            checksum: "0".repeat(64).parse().unwrap(),
            virtual_size: Bytes(64 << 20),
        }
    }
}

pub(crate) fn gib(n: i64) -> Gib {
    Gib::within(1..=1000, n).unwrap()
}

pub(crate) fn spec(
    id: VmId,
    disk: PathBuf,
    seed: PathBuf,
    address: std::net::Ipv4Addr,
) -> DomainSpec {
    let labels = [("team".to_owned(), "<a> & 'b'".to_owned())];
    let vm = VmSpec {
        shape: VmShape { vcpus: 1, ram: gib(1), disk: gib(10) },
        metadata: Metadata::parse(labels, &mut Violations::default()),
        ..samples::spec("suite-vm")
    };
    let record = VmRecord::creating(id, &vm, jiff::Timestamp::now());
    DomainSpec { record, disk, seed, address }
}

/// All that a VM needs, made by the ports, and its domain defined.
pub(crate) async fn defined(libvirt: &Libvirt, base: &Base, vm: &Vm) -> DomainSpec {
    let address =
        libvirt.network().assign_address(vm.0, &"suite-vm".parse().unwrap()).await.unwrap();
    let disk = libvirt.storage().create_overlay(vm.0, &base.image(), gib(10)).await.unwrap();
    let seed = libvirt.storage().store_seed(vm.0, &[0; 2048]).await.unwrap();
    let spec = spec(vm.0, disk, seed, address);
    libvirt.hypervisor().define(&spec).await.unwrap();
    spec
}
