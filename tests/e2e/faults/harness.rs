//! The harness itself: a leak that it did not see would make every other test worthless.

use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use rustix::process::test_kill_process;

use crate::stage::Stage;

/// Leaves something in the lab, and gives what the home's end says of it.
async fn what_the_end_says(leave: &[&str]) -> String {
    let lab = Lab::start().await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap();
    lab.virsh(leave).await.unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(home)));
    let again = Home::in_lab(&lab).await.unwrap();
    assert_eq!(again.ensure_nothing_left().await.map_err(|e| e.to_string()), Ok(()));
    assert_eq!(lab.virsh(&["vol-list", "default"]).await.unwrap().trim(), "", "it was not removed");
    let said = ended.map_err(|said| said.downcast_ref::<String>().cloned());
    said.unwrap_err().unwrap_or_default()
}

#[tokio::test]
async fn a_volume_that_is_left_fails_the_test_and_is_removed() {
    let said = what_the_end_says(&["vol-create-as", "default", "ghost-left.qcow2", "1M"]).await;
    assert!(said.contains("left: volume ghost-left.qcow2 in pool default"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_left_fails_the_test() {
    let host = "<host mac='52:54:00:00:00:01' name='ghost-left' ip='192.168.122.9'/>";
    let left = ["net-update", "default", "add", "ip-dhcp-host", host, "--live", "--config"];
    let said = what_the_end_says(&left).await;
    assert!(said.contains("left: DHCP host <host mac='52:54:00:00:00:01'"), "{said}");
}

#[tokio::test]
async fn a_lab_takes_everything_with_it() {
    let stage = Stage::with_blank_vms().await;
    let vm = stage.create("blank").await.unwrap();
    assert_eq!(stage.status(&vm).await.status, "error", "it took an address");
    let (qemu, folder) = (stage.lab.qemu(&vm.id).unwrap(), stage.lab.folder().to_owned());
    stage.lab.small_pool("small", 4).await.unwrap();
    stage.lab.freeze_libvirtd().await.unwrap();

    let Stage { api: _, agent, home, lab } = stage;
    agent.stop().await.unwrap();
    drop(home.leaves_vms());
    drop(lab);
    assert!(test_kill_process(qemu).is_err(), "QEMU outlived its lab");
    assert!(!folder.exists(), "the lab's folder is left");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(folder.to_str().unwrap()), "{mounts}");
}

#[tokio::test]
async fn a_small_pool_can_be_full_and_has_room_again() {
    let lab = Lab::start().await.unwrap();
    let folder = lab.small_pool("small", 4).await.unwrap();
    let write = ["vol-create-as", "small", "a", "1M", "--allocation", "1M"];
    lab.fill(&folder, 64).unwrap();
    let full = lab.virsh(&write).await.unwrap_err().to_string();
    assert!(full.contains("No space left"), "{full}");
    lab.unfill(&folder).unwrap();
    lab.virsh(&write).await.unwrap();
}

#[tokio::test]
async fn a_reboot_ends_every_guest_and_brings_network_and_pool_back() {
    let stage = Stage::with_blank_vms().await;
    let vm = stage.create("blank").await.unwrap();
    stage.lab.reboot().await.unwrap();
    assert!(stage.lab.qemu(&vm.id).is_err(), "a guest outlived the reboot");
    assert_eq!(stage.lab.virsh(&["net-list", "--name"]).await.unwrap().trim(), "default");
    assert_eq!(stage.lab.virsh(&["pool-list", "--name"]).await.unwrap().trim(), "default");
    stage.once_libvirt_is_back(async || stage.delete(&vm).await).await;
    stage.stop().await;
}
