//! The owner's limits, as the kernel and QEMU hold them, and what guests are measured to have moved.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use ghost_core::domain::{Bytes, Observed, PowerState, Traffic};
use ghost_core::ports::HypervisorEvent::Power;
use ghost_libvirt::{Libvirt, LibvirtConfig, Tuning};

use crate::world::{self, Base, Vm, event, virsh};

async fn tuned(tuning: Tuning) -> Libvirt {
    world::connect(LibvirtConfig { tuning, ..world::config("qemu:///system") }).await
}

fn on(cpus: &[u32]) -> Tuning {
    Tuning { cpus: cpus.to_vec(), ..Tuning::default() }
}

/// Where the kernel keeps the QEMU of a domain that runs.
fn process(vm: &Vm) -> PathBuf {
    let name = virsh(&["domname", &vm.0.to_string()]);
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", name.trim())).unwrap();
    Path::new("/proc").join(pid.trim())
}

/// Each CPU set that a thread of the process may run on (proc_pid_status(5)), once.
fn allowed(process: &Path) -> Vec<String> {
    let threads = std::fs::read_dir(process.join("task")).unwrap();
    // A worker of QEMU's may end meanwhile.
    let status = threads
        .filter_map(|thread| std::fs::read_to_string(thread.unwrap().path().join("status")).ok());
    let mut sets: Vec<_> = status
        .map(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            line.unwrap().trim().to_owned()
        })
        .collect();
    assert!(sets.len() > 1, "{sets:?}");
    sets.sort();
    sets.dedup();
    sets
}

/// What the process's cgroup says; `None` if the host lacks it. Under version 1 QEMU's main thread is in
/// `emulator`, below the domain's own.
fn cgroup(process: &Path, controller: &str, file: &str) -> Option<String> {
    let groups = std::fs::read_to_string(process.join("cgroup")).unwrap();
    let group = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        rest.strip_prefix(controller)?.strip_prefix(':')
    })?;
    let group = group.trim_start_matches('/').trim_end_matches("/emulator");
    let path = Path::new("/sys/fs/cgroup").join(controller).join(group).join(file);
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

async fn seen(libvirt: &Libvirt, vm: &Vm) -> Observed {
    let all = libvirt.hypervisor().observe().await.unwrap();
    all.into_iter().find(|seen| seen.id == vm.0).unwrap()
}

#[tokio::test]
async fn real_qemu_no_thread_of_a_guest_may_run_on_the_owners_cpu() {
    let (libvirt, base, vm) = (tuned(on(&[0])).await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    assert_eq!(allowed(&process(&vm)), ["0"]);
}

#[tokio::test]
async fn real_qemu_a_vm_that_was_made_under_another_reservation_starts_under_todays() {
    let (before, base, vm) = (tuned(on(&[0])).await, Base::new(), Vm::new());
    world::defined(&before, &base, &vm).await;
    before.shutdown().await;
    let now = tuned(on(&[1])).await;
    now.hypervisor().ensure_started(vm.0).await.unwrap();
    assert_eq!(allowed(&process(&vm)), ["1"]);
}

#[tokio::test]
async fn real_qemu_a_changed_reservation_moves_guests_while_they_run() {
    let (before, base, vm) = (tuned(on(&[0])).await, Base::new(), Vm::new());
    let (stopped, foreign) = (Vm::new(), Vm::new());
    for vm in [&vm, &stopped] {
        world::defined(&before, &base, vm).await;
    }
    before.hypervisor().ensure_started(vm.0).await.unwrap();
    world::define_foreign(&format!(
        "<domain type='qemu'><name>ghost-suite-foreign</name><uuid>{}</uuid><memory unit='MiB'>16</memory>\
         <vcpu cpuset='0'>1</vcpu><os><type arch='{}'>hvm</type></os></domain>",
        foreign.0,
        std::env::consts::ARCH
    ));
    before.shutdown().await;
    assert_eq!(allowed(&process(&vm)), ["0"]);

    let tuning = Tuning { cpu_weight: NonZeroU32::new(256), ..on(&[1]) };
    let now = tuned(tuning).await;
    now.tune_running().await.unwrap();
    assert_eq!(allowed(&process(&vm)), ["1"]);
    if let Some(shares) = cgroup(&process(&vm), "cpu", "cpu.shares") {
        assert_eq!(shares, "256");
    }
    for vm in [&vm, &stopped] {
        let definition = virsh(&["dumpxml", "--inactive", &vm.0.to_string()]);
        assert!(definition.contains("<emulatorpin cpuset='1'/>"), "{definition}");
        assert!(definition.contains("<vcpupin vcpu='0' cpuset='1'/>"), "{definition}");
    }
    let theirs = virsh(&["dumpxml", &foreign.0.to_string()]);
    assert!(theirs.contains("cpuset='0'") && !theirs.contains("emulatorpin"), "{theirs}");
}

#[tokio::test]
async fn real_qemu_a_vm_weighs_less_and_is_bounded_where_the_host_has_cgroups() {
    let tuning = Tuning {
        cpu_weight: NonZeroU32::new(512),
        io_weight: NonZeroU32::new(50),
        memory_overhead: Some(Bytes(2 << 30)),
        disk_iops: NonZeroU64::new(500),
        disk_read_bytes_per_s: NonZeroU64::new(10_000_000),
        disk_write_bytes_per_s: NonZeroU64::new(20_000_000),
        ..Tuning::default()
    };
    let (libvirt, base, vm) = (tuned(tuning).await, Base::new(), Vm::new());
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();

    let limits = virsh(&["blkdeviotune", &vm.0.to_string(), "vda"]);
    for (name, value) in
        [("total_iops_sec", "500"), ("read_bytes_sec", "10000000"), ("write_bytes_sec", "20000000")]
    {
        let held = limits.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim())
        });
        assert_eq!(held, Some(value), "{name}: {limits}");
    }
    let held = [
        ("cpu", "cpu.shares", "512".to_owned()),
        ("blkio", "blkio.bfq.weight", "50".to_owned()),
        ("memory", "memory.limit_in_bytes", (3_u64 << 30).to_string()),
    ];
    for (controller, file, value) in held {
        if let Some(found) = cgroup(&process(&vm), controller, file) {
            assert_eq!(found, value, "{file}");
        }
    }
}

#[tokio::test]
async fn real_qemu_a_limit_that_the_host_refuses_costs_neither_the_start_nor_the_other_limits() {
    let tuning = Tuning {
        // More than any scheduler of disks takes.
        io_weight: NonZeroU32::new(1_000_000),
        net_in_kbytes_per_s: NonZeroU32::new(1000),
        net_out_kbytes_per_s: NonZeroU32::new(1000),
        memory_overhead: Some(Bytes(1 << 30)),
        ..Tuning::default()
    };
    let (libvirt, base, vm) = (tuned(tuning).await, Base::new(), Vm::new());
    let mut events = libvirt.events().subscribe();
    world::defined(&libvirt, &base, &vm).await;
    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    event(&mut events, &Power(vm.0, PowerState::Running)).await;
    let id = vm.0.to_string();
    let refused = std::process::Command::new("virsh")
        .args(["-c", "qemu:///system", "blkiotune", &id, "--live", "--weight", "1000000"])
        .status();
    assert!(!refused.unwrap().success(), "nothing is refused here");
    if let Some(limit) = cgroup(&process(&vm), "memory", "memory.limit_in_bytes") {
        assert_eq!(limit, (2_u64 << 30).to_string());
    }
}

#[tokio::test]
async fn real_qemu_a_guest_is_measured_by_what_it_takes_of_the_host() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let spec = world::defined(&libvirt, &base, &vm).await;
    let taken = || {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(&spec.disk).unwrap().blocks() * 512
    };
    let off = seen(&libvirt, &vm).await;
    assert_eq!(off.traffic, Traffic { disk_used: taken(), ..Traffic::default() });

    libvirt.hypervisor().ensure_started(vm.0).await.unwrap();
    let running = seen(&libvirt, &vm).await;
    assert_eq!(running.traffic.disk_used, taken());
    assert!(running.traffic.host_ram > 1 << 20, "{running:?}");
    // Its empty disk boots nothing, so that its balloon driver says nothing.
    assert_eq!(running.ram_used, Some(running.traffic.host_ram.min(1 << 30)));
}
