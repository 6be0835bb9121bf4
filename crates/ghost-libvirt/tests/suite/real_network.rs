//! Addresses of a real network.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ghost_core::domain::{ErrorKind, MacAddr};

use crate::world::{self, Vm, hosts, virsh};

#[tokio::test(flavor = "multi_thread")]
async fn real_qemu_twenty_at_once_get_twenty_addresses_and_give_all_back() {
    let libvirt = Arc::new(world::real().await);
    let vms: Vec<Vm> = (0..20).map(|_| Vm::new()).collect();
    let name = "suite-vm".parse().unwrap();
    let mut turns = tokio::task::JoinSet::new();
    for id in vms.iter().map(|vm| vm.0) {
        let (network, name) = (libvirt.network(), Clone::clone(&name));
        turns.spawn(async move { network.assign_address(id, &name).await.unwrap() });
    }
    let addresses: HashSet<Ipv4Addr> = turns.join_all().await.into_iter().collect();
    assert_eq!(addresses.len(), 20, "{addresses:?}");
    for vm in &vms {
        // Once in the running network, once in its definition.
        assert_eq!(hosts().matches(&vm.0.to_string()).count(), 2);
        libvirt.network().release_address(vm.0).await.unwrap();
        libvirt.network().release_address(vm.0).await.unwrap();
    }
    assert!(vms.iter().all(|vm| !hosts().contains(&vm.0.to_string())));
}

#[tokio::test]
async fn real_qemu_a_vm_keeps_its_address_even_if_the_network_lost_half_of_it() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    let name = "suite-vm".parse().unwrap();
    let first = libvirt.network().assign_address(vm.0, &name).await.unwrap();
    let host = format!("<host mac='{}'/>", MacAddr::of(vm.0));
    for reach in ["--live", "--config"] {
        virsh(&["net-update", "default", "delete", "ip-dhcp-host", &host, reach]);
        assert_eq!(libvirt.network().assign_address(vm.0, &name).await.unwrap(), first);
        assert_eq!(hosts().matches(&vm.0.to_string()).count(), 2);
    }
}

#[tokio::test]
async fn real_qemu_a_foreign_host_with_the_same_mac_is_left_alone() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    let other = Vm::new();
    let address =
        libvirt.network().assign_address(other.0, &"suite-vm".parse().unwrap()).await.unwrap();
    libvirt.network().release_address(other.0).await.unwrap();
    let host = format!(
        "<host mac='{}' name='ownerpc-{}' ip='{address}'/>",
        MacAddr::of(vm.0),
        &vm.0.to_string()[..8]
    );
    virsh(&["net-update", "default", "add-last", "ip-dhcp-host", &host, "--live", "--config"]);
    let before = hosts();
    assert!(before.contains("ownerpc"), "{before}");
    let error =
        libvirt.network().assign_address(vm.0, &"suite-vm".parse().unwrap()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::HypervisorFailed);
    libvirt.network().release_address(vm.0).await.unwrap();
    assert!(hosts().contains(&format!("ownerpc-{}", &vm.0.to_string()[..8])));
}

#[tokio::test]
async fn real_qemu_a_vm_that_never_asked_has_no_lease() {
    let (libvirt, vm) = (world::real().await, Vm::new());
    assert_eq!(libvirt.network().lease(vm.0).await.unwrap(), None);
}
