//! The contract that ghost-core's fakes keep, kept by libvirt's test driver and by real QEMU.

use ghost_core::domain::VmId;
use ghost_core::testing::contract;

use crate::world::{self, Base, Vm, gib};

#[tokio::test]
async fn the_test_driver_keeps_the_hypervisor_contract() {
    let libvirt = crate::test_driver::node().await;
    let (hypervisor, events) = (libvirt.hypervisor(), libvirt.events());
    let spec = crate::test_driver::spec(VmId::generate());
    contract::a_domain_lives_and_every_step_may_be_repeated(&*hypervisor, &*events, &spec).await;
    contract::a_running_domain_can_be_removed_in_one_step(&*hypervisor, &spec).await;
}

#[tokio::test]
async fn real_qemu_keeps_the_hypervisor_contract() {
    let (libvirt, base, vm) = (world::real().await, Base::new(), Vm::new());
    let (hypervisor, events) = (libvirt.hypervisor(), libvirt.events());
    let name = "suite-vm".parse().unwrap();
    let address = libvirt.network().assign_address(vm.0, &name).await.unwrap();
    let disk = libvirt.storage().create_overlay(vm.0, &base.image(), gib(10)).await.unwrap();
    let seed = libvirt.storage().store_seed(vm.0, &[0; 2048]).await.unwrap();
    let spec = world::spec(vm.0, disk, seed, address);
    contract::a_domain_lives_and_every_step_may_be_repeated(&*hypervisor, &*events, &spec).await;
    contract::a_running_domain_can_be_removed_in_one_step(&*hypervisor, &spec).await;
}

#[tokio::test]
async fn real_qemu_keeps_the_network_contract() {
    contract::addresses_are_unique_and_stable(&*world::real().await.network()).await;
}

#[tokio::test]
async fn real_qemu_keeps_the_storage_contract() {
    let (libvirt, base) = (world::real().await, Base::new());
    contract::volumes_are_made_and_removed_idempotently(&*libvirt.storage(), &base.image()).await;
}
