//! libvirt's test driver: domains without QEMU, in a world of each test's own.

use std::io::Write;
use std::num::{NonZeroU32, NonZeroU64};

use ghost_core::domain::{Bytes, ErrorKind, OffCause, PowerState, VmId};
use ghost_core::ports::HypervisorEvent::{Power, Undefined};
use ghost_libvirt::{BreakerState, Enforcement, Libvirt, LibvirtConfig, Policy, Tuning};

use crate::world::{self, event};

const FOREIGN: &str = "11111111-2222-4333-8444-555555555555";

/// A node with one foreign domain, a network and a pool.
pub(crate) async fn node() -> Libvirt {
    node_held_to(Tuning::default()).await
}

async fn node_held_to(tuning: Tuning) -> Libvirt {
    let mut file = tempfile::NamedTempFile::with_suffix(".xml").unwrap();
    write!(
        file,
        "<node><domain type='test'><name>theirs</name><uuid>{FOREIGN}</uuid><memory>8192</memory><vcpu>1</vcpu>\
         <os><type>hvm</type></os></domain>\
         <network><name>default</name><bridge name='virbr0'/><forward/><ip address='192.0.2.1' netmask='255.255.255.0'>\
         <dhcp><range start='192.0.2.2' end='192.0.2.4'/></dhcp></ip></network>\
         <pool type='dir'><name>default</name><target><path>/no/such/folder</path></target></pool></node>"
    )
    .unwrap();
    let uri = format!("test://{}", file.path().display());
    world::connect(LibvirtConfig { uri, tuning, ..world::config("") }).await
}

pub(crate) fn spec(id: VmId) -> ghost_core::ports::DomainSpec {
    world::spec(id, "/pool/d.qcow2".into(), "/pool/s.iso".into(), "192.0.2.2".parse().unwrap())
}

#[tokio::test]
async fn a_domain_lives_from_definition_to_removal_and_tells_each_step() {
    let (libvirt, id) = (node().await, VmId::generate());
    let (hypervisor, mut events) = (libvirt.hypervisor(), libvirt.events().subscribe());
    hypervisor.define(&spec(id)).await.unwrap();
    event(&mut events, &Power(id, PowerState::Off(OffCause::Unknown))).await;
    hypervisor.ensure_started(id).await.unwrap();
    event(&mut events, &Power(id, PowerState::Running)).await;
    let seen = hypervisor.observe().await.unwrap();
    assert_eq!(
        seen.iter().map(|seen| (seen.id, &seen.power)).collect::<Vec<_>>(),
        [(id, &PowerState::Running)]
    );
    hypervisor.ensure_off(id).await.unwrap();
    event(&mut events, &Power(id, PowerState::Off(OffCause::Cut))).await;
    hypervisor.ensure_undefined(id).await.unwrap();
    event(&mut events, &Undefined(id)).await;
    assert!(hypervisor.observe().await.unwrap().is_empty());
}

#[tokio::test]
async fn its_vitals_tell_what_is_asked_for_and_whether_the_filter_was_seen() {
    let (cpu_weight, disk_iops) = (NonZeroU32::new(256), NonZeroU64::new(30));
    let libvirt = node_held_to(Tuning { cpu_weight, disk_iops, ..Tuning::default() }).await;
    let vitals = libvirt.vitals();
    assert!(vitals.connected);
    assert_eq!(vitals.breaker, BreakerState::Closed);
    // Whether the host can set a weight shows with the first guest.
    let disk = (Policy::DiskLimit, Enforcement::Enforced);
    assert_eq!(vitals.policies, [disk]);
    // The test driver has neither network filters nor weights.
    libvirt.check().await;
    let no_filter = (Policy::NetworkFilter, Enforcement::Refused);
    assert_eq!(libvirt.vitals().policies, [no_filter, disk]);
    let id = VmId::generate();
    libvirt.hypervisor().define(&spec(id)).await.unwrap();
    libvirt.hypervisor().ensure_started(id).await.unwrap();
    let no_weight = (Policy::CpuWeight, Enforcement::Refused);
    assert_eq!(libvirt.vitals().policies, [no_filter, disk, no_weight]);
}

#[tokio::test]
async fn a_guest_that_is_asked_to_power_off_goes_off() {
    let (libvirt, id) = (node().await, VmId::generate());
    let (hypervisor, mut events) = (libvirt.hypervisor(), libvirt.events().subscribe());
    hypervisor.define(&spec(id)).await.unwrap();
    hypervisor.ensure_started(id).await.unwrap();
    hypervisor.ask_to_power_off(id).await.unwrap();
    event(&mut events, &Power(id, PowerState::Running)).await;
    event(&mut events, &Power(id, PowerState::Off(OffCause::Guest))).await;
    hypervisor.ask_to_power_off(id).await.unwrap();
}

#[tokio::test]
async fn a_guest_starts_on_a_host_that_can_hold_it_to_nothing_but_its_cpus() {
    let tuning = Tuning {
        cpus: vec![0],
        cpu_weight: NonZeroU32::new(512),
        io_weight: NonZeroU32::new(50),
        memory_overhead: Some(Bytes(1 << 30)),
        net_in_kbytes_per_s: NonZeroU32::new(1000),
        net_out_kbytes_per_s: NonZeroU32::new(1000),
        ..Tuning::default()
    };
    let (libvirt, id) = (node_held_to(tuning).await, VmId::generate());
    libvirt.hypervisor().define(&spec(id)).await.unwrap();
    libvirt.hypervisor().ensure_started(id).await.unwrap();
    libvirt.tune_running().await.unwrap();
    let seen = libvirt.hypervisor().observe().await.unwrap();
    assert_eq!(seen.first().map(|seen| &seen.power), Some(&PowerState::Running));
}

#[tokio::test]
async fn a_foreign_domain_is_neither_seen_nor_touched() {
    let (libvirt, theirs) = (node().await, FOREIGN.parse().unwrap());
    let hypervisor = libvirt.hypervisor();
    assert!(hypervisor.observe().await.unwrap().is_empty());
    for result in [hypervisor.ensure_off(theirs).await, hypervisor.ensure_undefined(theirs).await] {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::HypervisorFailed);
    }
    let still_there = hypervisor.ensure_started(theirs).await.unwrap_err();
    assert_eq!(still_there.kind(), ErrorKind::HypervisorFailed, "{still_there}");
}

#[tokio::test]
async fn a_pool_that_this_host_does_not_see_is_measured_by_libvirt() {
    let space = node().await.storage().space().await.unwrap();
    assert!(space.total.0 > 0 && space.free <= space.total, "{space:?}");
}

/// The names of this process's threads that have not begun to leave the kernel's list.
fn threads() -> Vec<String> {
    /// The kernel's PF_EXITING, in the ninth field of proc_pid_stat(5): a thread that was joined may
    /// still be listed for a moment.
    const EXITING: u64 = 0x4;
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats =
        tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).ok());
    let alive = stats.filter_map(|stat| {
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let flags: u64 = rest.split_whitespace().nth(6)?.parse().ok()?;
        (flags & EXITING == 0).then(|| name.to_owned())
    });
    alive.collect()
}

/// Those that use libvirt and may end while the process does.
fn callers() -> usize {
    let ours = ["libvirt-call", "libvirt-watch"];
    threads().iter().filter(|name| ours.contains(&name.as_str())).count()
}

#[tokio::test]
async fn after_a_shutdown_no_thread_that_called_libvirt_is_left() {
    let libvirt = node().await;
    libvirt.hypervisor().observe().await.unwrap();
    assert_ne!(callers(), 0);
    libvirt.shutdown().await;
    assert_eq!(callers(), 0, "{:?}", threads());
}

#[tokio::test]
async fn after_a_drop_no_thread_that_called_libvirt_is_left() {
    let libvirt = node().await;
    libvirt.hypervisor().observe().await.unwrap();
    drop(libvirt);
    assert_eq!(callers(), 0, "{:?}", threads());
}
