//! The fakes keep the contract that the real adapters keep.

use ghost_core::domain::{BaseImage, Bytes, Gib, VmId, VmRecord};
use ghost_core::ports::DomainSpec;
use ghost_core::testing::{World, contract, samples};

fn base() -> BaseImage {
    BaseImage {
        path: "/images/base.qcow2".into(),
        checksum: "0".repeat(64).parse().unwrap(),
        virtual_size: Bytes(Gib::BYTES),
    }
}

/// A domain whose volumes exist, as the fake demands.
async fn domain(world: &World) -> DomainSpec {
    use ghost_core::ports::{Clock, Network, Storage};
    let spec = samples::spec("contract");
    let record = VmRecord::creating(VmId::generate(), &spec, world.clock.now());
    let id = record.id;
    DomainSpec {
        disk: world.create_overlay(id, &base(), spec.shape.disk).await.unwrap(),
        seed: world.store_seed(id, b"seed").await.unwrap(),
        address: world.assign_address(id, &record.name).await.unwrap(),
        record,
    }
}

#[tokio::test(start_paused = true)]
async fn the_fake_hypervisor_keeps_the_contract() {
    let world = World::new();
    let spec = domain(&world).await;
    contract::a_domain_lives_and_every_step_may_be_repeated(&*world, &*world, &spec).await;
    let spec = domain(&world).await;
    contract::a_running_domain_can_be_removed_in_one_step(&*world, &spec).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_network_keeps_the_contract() {
    contract::addresses_are_unique_and_stable(&*World::new()).await;
}

#[tokio::test(start_paused = true)]
async fn the_fake_storage_keeps_the_contract() {
    contract::volumes_are_made_and_removed_idempotently(&*World::new(), &base()).await;
}
