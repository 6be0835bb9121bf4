//! The host fails: its disks fill, its pool and network go, its libvirt forgets, and it is booted anew.

use std::time::Duration;

use ghost_e2e::client::mini;
use ghost_e2e::failpoint::At;
use ghost_e2e::home::Home;
use ghost_e2e::lab::{Access, Lab};
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::CreateVmRequest;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::stage::{RECONNECT, SOON, Stage, Vm};

/// Until the agent has noticed, and has put right what it can.
const RECONCILED: Duration = Duration::from_secs(75);

fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// Whether libvirt keeps the domain's definition.
async fn persistent(lab: &Lab, vm: &Vm) -> bool {
    let info = lab.virsh(&["dominfo", &vm.id]).await;
    info.is_ok_and(|info| {
        info.lines().any(|line| line.starts_with("Persistent:") && line.ends_with("yes"))
    })
}

/// A VM that runs, and needs no boot.
async fn running(stage: &Stage, name: &str) -> Vm {
    let vm = stage.create(name).await.unwrap();
    // It was kept to be looked into; a start after a stop makes it one like the others.
    stage.cut(&vm).await.unwrap();
    stage.start(&vm).await.unwrap();
    vm
}

/// Fault: the storage pool is inactive. Promise: 1, 2, 10. Result: a create is refused with the remedy, a
/// delete says what is missing and is finished once the pool is back.
#[tokio::test]
async fn the_pool_is_inactive() {
    let stage = Stage::with_blank_vms().await;
    let vm = stage.create("blank").await.unwrap();
    stage.lab.virsh(&["pool-destroy", "default"]).await.unwrap();
    let refused = stage.create("other").await.unwrap_err();
    assert!(refused.message().contains("virsh pool-start default"), "{refused}");
    let refused = stage.delete(&vm).await.unwrap_err();
    assert!(refused.message().contains("virsh pool-start default"), "{refused}");
    let status = stage.status(&vm).await;
    assert_eq!(status.status, "deleting");
    assert!(status.reason.contains("virsh pool-start default"), "{}", status.reason);

    stage.lab.virsh(&["pool-start", "default"]).await.unwrap();
    stage.vanishes(&vm, RECONCILED).await;
    stage.stop().await;
}

/// Fault: the network is down. Promise: 1, 10. Result: a create is refused with the remedy, and nothing is left.
#[tokio::test]
async fn the_network_is_down() {
    let stage = Stage::with_blank_vms().await;
    stage.lab.virsh(&["net-destroy", "default"]).await.unwrap();
    let refused = stage.create("blank").await.unwrap_err();
    assert_eq!((refused.code(), reason(&refused).as_str()), (Code::Unavailable, "NETWORK_ERROR"));
    assert!(refused.message().contains("virsh net-start default"), "{refused}");
    stage.home.ensure_nothing_left().await.unwrap();
    stage.lab.virsh(&["net-start", "default"]).await.unwrap();
    let vm = stage.create("blank").await.unwrap();
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the domain is undefined behind our back, while it runs and while it is off. Promise: 1, 2. Result: it
/// is defined again at once, and what it was is kept.
#[tokio::test]
async fn the_domain_is_undefined_behind_our_back() {
    let stage = Stage::with_blank_vms().await;
    let vm = running(&stage, "blank").await;
    let again = async || Ok(persistent(&stage.lab, &vm).await.then_some(()));

    stage.lab.virsh(&["undefine", &vm.id]).await.unwrap();
    eventually("the running domain's definition", RECONCILED, again).await.unwrap();
    assert_eq!(stage.status(&vm).await.status, "running");

    stage.when_free(async || stage.cut(&vm).await).await;
    stage.lab.virsh(&["undefine", &vm.id]).await.unwrap();
    eventually("the domain's definition", RECONCILED, again).await.unwrap();
    stage.becomes(&vm, "stopped", SOON).await;
    stage.when_free(async || stage.start(&vm).await).await;
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the overlay is deleted behind our back. Promise: 1, 10. Result: a start says what is gone; a delete
/// takes the rest away.
#[tokio::test]
async fn the_overlay_is_deleted_behind_our_back() {
    let stage = Stage::with_blank_vms().await;
    let vm = running(&stage, "blank").await;
    stage.cut(&vm).await.unwrap();
    let overlay = format!("ghost-{}.qcow2", vm.id);
    stage.lab.virsh(&["vol-delete", &overlay, "--pool", "default"]).await.unwrap();
    let refused = stage.start(&vm).await.unwrap_err();
    assert!(refused.message().contains(&overlay), "{refused}");
    assert_eq!(stage.status(&vm).await.status, "stopped");
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// What libvirt, the kernel and the agent call a full disk.
const FULL: [&str; 3] = ["no space left", "is full", "free some space"];

/// Lets the disk fill at one place, expects a create to say so and to leave nothing, and to work with
/// room again.
async fn full(setting: &'static str, leave_kib: u64, places: Places) {
    let lab = Lab::start().await.unwrap();
    let folder = match places {
        Places::Pool => lab.small_pool("small", 200).await.unwrap(),
        Places::Folder => lab.small_folder("small", 64).unwrap(),
    };
    let value = match places {
        Places::Pool => "small".to_owned(),
        Places::Folder => folder.display().to_string(),
    };
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    let stage = Stage::of(lab, home.with(setting, value)).await;
    stage.lab.fill(&folder, leave_kib).unwrap();
    let refused = stage.create("blank").await.unwrap_err();
    let told = refused.message().to_lowercase();
    assert!(FULL.iter().any(|words| told.contains(words)), "{refused}");
    stage.home.ensure_nothing_left().await.unwrap();
    stage.lab.unfill(&folder).unwrap();
    let vm = stage.create("blank").await.unwrap();
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Where the room ends.
#[derive(Debug, Clone, Copy)]
enum Places {
    Pool,
    Folder,
}

/// Fault: the disk is full while the overlay is made. Promise: 1, 10. Result: a create says so, nothing is left,
/// and with room again it works.
#[tokio::test]
async fn the_disk_is_full_at_the_overlay() {
    full("LIBVIRT__STORAGE_POOL", 64, Places::Pool).await;
}

/// Fault: the disk is full while the seed is written. Promise: 1, 10. Result: a create says so, nothing is left,
/// and with room again it works.
#[tokio::test]
async fn the_disk_is_full_at_the_seed() {
    let lab = Lab::start().await.unwrap();
    let folder = lab.small_pool("small", 200).await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    let home = home.with("LIBVIRT__STORAGE_POOL", "small");
    let agent = home.start_failing("storage.store_seed:before", At::Hold).await.unwrap();
    let api = home.api(&agent).await.unwrap();
    let stage = Stage { api, agent, home, lab };
    let fills = async {
        stage.agent.held().await.unwrap();
        stage.lab.fill(&folder, 0).unwrap();
        stage.agent.release().await.unwrap();
    };
    let (refused, ()) = tokio::join!(stage.create("blank"), fills);
    let refused = refused.unwrap_err();
    let told = refused.message().to_lowercase();
    assert!(FULL.iter().any(|words| told.contains(words)), "{refused}");
    stage.home.ensure_nothing_left().await.unwrap();
    stage.lab.unfill(&folder).unwrap();
    let vm = stage.create("blank").await.unwrap();
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the disk is full while the ledger is written. Promise: 1, 10. Result: a create says so before it has
/// touched anything.
#[tokio::test]
async fn the_disk_is_full_at_the_ledger() {
    full("AGENT__STATE_DIR", 0, Places::Folder).await;
}

/// Fault: the disk is full while an image is cached. Promise: 1, 10. Result: a create says so, nothing of the image
/// is left.
#[tokio::test]
async fn the_disk_is_full_at_the_image() {
    full("LIBVIRT__IMAGE_CACHE", 64, Places::Folder).await;
}

/// Fault: the state folder turns read-only. Promise: 1, 2, 10. Result: changes are refused with the reason, reads and
/// guests go on; the next agent refuses to start and says why.
#[tokio::test]
async fn the_state_folder_is_read_only() {
    let lab = Lab::start().await.unwrap();
    // The records' own folder: that of the state has a file that is open for writing, the lock.
    let state = lab.small_folder("state/vms", 8).unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    let folder = lab.folder().join("state").display().to_string();
    let stage = Stage::of(lab, home.with("AGENT__STATE_DIR", folder)).await;
    let vm = stage.create("blank").await.unwrap();
    stage.lab.remount(&state, Access::Read).unwrap();
    for refused in [stage.delete(&vm).await.map(drop), stage.create("other").await.map(drop)] {
        let refused = refused.unwrap_err();
        assert!(refused.message().to_lowercase().contains("read-only"), "{refused}");
    }
    assert_eq!(stage.status(&vm).await.status, "error", "it took an address");
    let Stage { api: _, agent, home, lab } = stage;
    agent.stop().await.unwrap();
    let output = home.command().unwrap().output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
    assert!(!output.status.success() && said.contains("read-only"), "{said}");

    lab.remount(&state, Access::Write).unwrap();
    let stage = Stage::of(lab, home).await;
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the disk is full while a guest writes. Promise: 2, 8, 10. Result: the guest is held, its status says why and
/// what to do; with room again a start lets it go on.
#[tokio::test]
async fn the_disk_is_full_under_a_guest() {
    let lab = Lab::start().await.unwrap();
    let folder = lab.small_pool("small", 200).await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with("LIBVIRT__STORAGE_POOL", "small");
    let stage = Stage::of(lab, home).await;
    stage.lab.fill(&folder, 16 * 1024).unwrap();
    let writes =
        "#!/bin/sh\n(sleep 3; dd if=/dev/zero of=/dev/vda bs=1M seek=4096 count=24 conv=fsync) &\n";
    let request = CreateVmRequest { user_data: writes.to_owned(), ..mini("writes") };
    let created = stage.api.clone().create_vm(request).await.unwrap().into_inner();
    let vm = Vm { id: created.vm_id, address: created.ip_address };
    let held = stage.becomes(&vm, "paused", RECONNECT).await;
    assert!(held.reason.contains("no space left"), "{}", held.reason);
    assert!(held.reason.contains("agentctl vm start writes"), "{}", held.reason);

    stage.lab.unfill(&folder).unwrap();
    stage.start(&vm).await.unwrap();
    assert_eq!(stage.status(&vm).await.status, "running");
    assert!(stage.lab.answers(&vm.address).await, "the guest did not go on");
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the host's power is cut. Promise: 1, 2. Result: after the boot what ran runs again, what was off is
/// off, at the same addresses; a domain that was lost is defined again.
#[tokio::test]
async fn the_host_is_booted_anew() {
    let mut stage = Stage::with_blank_vms().await;
    let (runs, lost, off) = (
        running(&stage, "runs").await,
        running(&stage, "lost").await,
        running(&stage, "off").await,
    );
    stage.cut(&off).await.unwrap();
    stage.agent.kill().await.unwrap();
    stage.lab.reboot().await.unwrap();
    stage.lab.virsh(&["undefine", &lost.id]).await.unwrap();
    in_another_boot(&stage.home);
    stage.next_agent().await;
    for vm in [&runs, &lost] {
        stage.becomes(vm, "running", RECONCILED).await;
        stage.lab.qemu(&vm.id).unwrap();
        assert_eq!(stage.status(vm).await.ip_address, vm.address);
    }
    stage.becomes(&off, "stopped", SOON).await;
    for vm in [&runs, &lost, &off] {
        stage.delete(vm).await.unwrap();
    }
    stage.stop().await;
}

/// Makes the ledger believe that its VMs were started in another boot of the host: this one can't be booted.
fn in_another_boot(home: &Home) {
    let this = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    for file in records(home) {
        let text = std::fs::read_to_string(&file).unwrap();
        let other = text.replace(this.trim(), "00000000-0000-4000-8000-000000000000");
        std::fs::write(&file, other).unwrap();
    }
}

fn records(home: &Home) -> Vec<std::path::PathBuf> {
    let folder = std::fs::read_dir(home.path().join("state/vms")).unwrap();
    folder.map(|entry| entry.unwrap().path()).collect()
}

/// Fault: a VM's record is torn, empty, truncated, or of something else. Promise: 1, 2. Result: the file is set
/// aside with a loud error, and the record is made anew from libvirt's metadata; the guest runs on.
#[tokio::test]
async fn a_record_is_damaged() {
    let mut stage = Stage::with_blank_vms().await;
    let vm = running(&stage, "blank").await;
    let whole = std::fs::read(&records(&stage.home)[0]).unwrap();
    let foreign = br#"{"schema": 1, "shopping": ["milk"]}"#.to_vec();
    for damaged in [Vec::new(), whole[..whole.len() / 2].to_vec(), vec![0; whole.len()], foreign] {
        let qemu = stage.lab.qemu(&vm.id).unwrap();
        stage.agent.kill().await.unwrap();
        let file =
            records(&stage.home).into_iter().find(|f| f.extension().is_some_and(|e| e == "json"));
        std::fs::write(file.unwrap(), &damaged).unwrap();
        stage.next_agent().await;
        stage.agent.until("is set aside", SOON).await.unwrap();
        stage.agent.until("made anew from libvirt's metadata", SOON).await.unwrap();
        let status = stage.becomes(&vm, "running", SOON).await;
        assert_eq!((status.name.as_str(), &status.ip_address), ("blank", &vm.address));
        assert_eq!((status.vcpu, status.ram_gb, status.disk_gb), (1, 1, 10));
        assert_eq!(stage.lab.qemu(&vm.id).unwrap(), qemu);
    }
    stage.delete(&vm).await.unwrap();
    for aside in records(&stage.home) {
        std::fs::remove_file(aside).unwrap();
    }
    stage.stop().await;
}

/// Fault: the ledger was written by a later version. Promise: 1. Result: the agent refuses to start, says so,
/// and changes nothing.
#[tokio::test]
async fn the_ledger_is_of_a_later_version() {
    let mut stage = Stage::with_blank_vms().await;
    let vm = running(&stage, "blank").await;
    stage.agent.kill().await.unwrap();
    let file = records(&stage.home).remove(0);
    let ours = std::fs::read_to_string(&file).unwrap();
    let later = ours.replacen("\"schema\": 1", "\"schema\": 99", 1);
    std::fs::write(&file, &later).unwrap();
    let output = stage.home.command().unwrap().output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains("99"), "{said}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), later);
    stage.lab.qemu(&vm.id).unwrap();
    std::fs::write(&file, ours).unwrap();
    stage.next_agent().await;
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}
