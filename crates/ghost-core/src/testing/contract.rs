//! What every adapter must do, whoever implements it. Each function is one claim; it panics with
//! the claim that does not hold and leaves nothing behind when all do.
#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests, shared by three crates")]

use std::time::Duration;

use crate::domain::{BaseImage, Definition, Gib, OffCause, PowerState, VmId};
use crate::ports::{
    DomainSpec, Events, FoundVolumes, Hypervisor, HypervisorEvent, Network, Storage,
};

/// Longest wait for an event; far above what any driver needs.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// A domain goes through its life, every step may be repeated, and each change is told.
pub async fn a_domain_lives_and_every_step_may_be_repeated(
    hypervisor: &dyn Hypervisor,
    events: &dyn Events,
    spec: &DomainSpec,
) {
    let mut told = events.subscribe();
    hypervisor.define(spec).await.unwrap();
    hypervisor.define(spec).await.unwrap();
    assert_eq!(power(hypervisor, spec.record.id).await, Some(PowerState::Off(OffCause::Unknown)));

    for _ in 0..2 {
        hypervisor.ensure_started(spec.record.id).await.unwrap();
        assert_eq!(power(hypervisor, spec.record.id).await, Some(PowerState::Running));
    }
    until(&mut told, HypervisorEvent::Power(spec.record.id, PowerState::Running)).await;

    for _ in 0..2 {
        hypervisor.ensure_off(spec.record.id).await.unwrap();
        assert_eq!(power(hypervisor, spec.record.id).await, Some(PowerState::Off(OffCause::Cut)));
    }
    until(&mut told, HypervisorEvent::Power(spec.record.id, PowerState::Off(OffCause::Cut))).await;

    let kept = hypervisor.kept().await.unwrap();
    let kept = kept.into_iter().find(|one| one.id == spec.record.id).unwrap();
    assert_eq!(kept.record.as_ref(), Some(&spec.record));
    assert_eq!(kept.definition, Definition::Persistent);

    for _ in 0..2 {
        hypervisor.ensure_undefined(spec.record.id).await.unwrap();
        assert_eq!(power(hypervisor, spec.record.id).await, None);
    }
    until(&mut told, HypervisorEvent::Undefined(spec.record.id)).await;
}

/// Removing the definition of a running domain powers it off first.
pub async fn a_running_domain_can_be_removed_in_one_step(
    hypervisor: &dyn Hypervisor,
    spec: &DomainSpec,
) {
    hypervisor.define(spec).await.unwrap();
    hypervisor.ensure_started(spec.record.id).await.unwrap();
    hypervisor.ensure_undefined(spec.record.id).await.unwrap();
    assert_eq!(power(hypervisor, spec.record.id).await, None);
}

/// A VM keeps its one address, two VMs have two, and what is given back is free.
pub async fn addresses_are_unique_and_stable(network: &dyn Network) {
    let (one, other) = (VmId::generate(), VmId::generate());
    let name = |text: &str| text.parse().unwrap();
    let first = network.assign_address(one, &name("contract-one")).await.unwrap();
    assert_eq!(network.assign_address(one, &name("contract-one")).await.unwrap(), first);
    let second = network.assign_address(other, &name("contract-other")).await.unwrap();
    assert_ne!(first, second);
    assert_eq!(network.lease(one).await.unwrap(), None);
    for id in [one, one, other] {
        network.release_address(id).await.unwrap();
    }
}

/// Volumes can be made, made again over a left-over, and removed, also when they are not there.
pub async fn volumes_are_made_and_removed_idempotently(storage: &dyn Storage, base: &BaseImage) {
    let id = VmId::generate();
    let size = Gib::within(10..=1000, 10).unwrap();
    let disk = storage.create_overlay(id, base, size).await.unwrap();
    assert!(disk.is_absolute());
    assert_eq!(storage.create_overlay(id, base, size).await.unwrap(), disk);
    let seed = storage.store_seed(id, &[7; 4096]).await.unwrap();
    assert!(seed.is_absolute() && seed != disk);
    assert!(storage.space().await.unwrap().total.0 > 0);
    let found = FoundVolumes { disk: Some(disk), seed: Some(seed) };
    assert_eq!(storage.find(id).await.unwrap(), found);
    for _ in 0..2 {
        storage.ensure_no_seed(id).await.unwrap();
        storage.ensure_no_overlay(id).await.unwrap();
    }
    assert_eq!(storage.find(id).await.unwrap(), FoundVolumes::default());
}

async fn power(hypervisor: &dyn Hypervisor, id: VmId) -> Option<PowerState> {
    let all = hypervisor.observe().await.unwrap();
    all.into_iter().find(|o| o.id == id).map(|o| o.power)
}

async fn until(
    told: &mut tokio::sync::broadcast::Receiver<HypervisorEvent>,
    wanted: HypervisorEvent,
) {
    let waiting = async {
        loop {
            match told.recv().await {
                Ok(event) if event == wanted => return,
                Ok(_) => {}
                Err(error) => panic!("waiting for {wanted:?}: {error}"),
            }
        }
    };
    if tokio::time::timeout(EVENT_LIMIT, waiting).await.is_err() {
        panic!("was never told {wanted:?}");
    }
}
