//! What the use cases tell the meter of their work.

use std::time::Duration;

use crate::control_plane::Talk;
use crate::rig::{Rig, by_name};
use ghost_core::application::{Limits, OnAddressTimeout};
use ghost_core::domain::ErrorCode;
use ghost_core::ports::{CreateStep, EventQueue as _, Measured};
use ghost_core::testing::{Conduct, Guest, World, samples};

/// How each step ended, in the order in which they did.
fn steps(world: &World) -> Vec<(CreateStep, Result<(), ErrorCode>)> {
    let step = |measured| match measured {
        Measured::Step { step, outcome, .. } => Some((step, outcome)),
        _ => None,
    };
    world.meter.noted().into_iter().filter_map(step).collect()
}

fn creates(world: &World) -> Vec<(Duration, Result<(), ErrorCode>)> {
    let create = |measured| match measured {
        Measured::Create { took, outcome } => Some((took, outcome)),
        _ => None,
    };
    world.meter.noted().into_iter().filter_map(create).collect()
}

fn deleted(world: &World) -> usize {
    world.meter.noted().iter().filter(|one| **one == Measured::Deleted).count()
}

#[tokio::test(start_paused = true)]
async fn a_create_tells_each_of_its_steps_once_and_how_long_it_took() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let mut told = steps(&rig.world);
    told.sort_by_key(|(step, _)| CreateStep::ALL.iter().position(|one| one == step));
    assert_eq!(told, CreateStep::ALL.map(|step| (step, Ok(()))));
    let [(took, Ok(()))] = creates(&rig.world)[..] else { panic!("one create") };
    // The fake guest boots in 0.1 s, and the lease is what is waited for.
    let lease = rig.world.meter.noted().into_iter().find_map(|one| match one {
        Measured::Step { step: CreateStep::Lease, took, .. } => Some(took),
        _ => None,
    });
    assert!(lease.unwrap() >= Duration::from_millis(100) && took >= lease.unwrap(), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn the_step_that_failed_is_told_as_failed_and_no_later_one_is_told() {
    let calls = [
        (CreateStep::Admission, "facts"),
        (CreateStep::Image, "ensure_cached"),
        (CreateStep::Disk, "create_overlay"),
        (CreateStep::Seed, "store_seed"),
        (CreateStep::Address, "assign_address"),
        (CreateStep::Define, "define"),
        (CreateStep::Start, "ensure_started"),
        (CreateStep::Lease, "lease"),
    ];
    for (step, call) in calls {
        let rig = Rig::new();
        rig.world.faults.fail_always(call);
        rig.vm("web").await.unwrap_err();
        let told = steps(&rig.world);
        let failed: Vec<_> = told.iter().filter(|(_, outcome)| outcome.is_err()).collect();
        assert_eq!(failed, [&(step, Err(ErrorCode::Hypervisor))], "{call}");
        let place = |step| CreateStep::ALL.iter().position(|one| *one == step);
        // Address and image are made at the same time; whichever fails, the other is awaited.
        let later = told.iter().filter(|(one, _)| {
            place(*one) > place(step) && place(*one) > place(CreateStep::Address)
        });
        assert_eq!(later.count(), 0, "{call}: {told:?}");
        let [(_, outcome)] = creates(&rig.world)[..] else { panic!("one create") };
        assert_eq!(outcome, Err(ErrorCode::Hypervisor), "{call}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_vm_that_is_kept_without_an_address_counts_as_a_failed_create() {
    let limits = Limits { on_address_timeout: OnAddressTimeout::Keep, ..Limits::default() };
    let rig = Rig::with(limits);
    rig.world.guests(Guest::TakesNoAddress);
    assert!(rig.vm("web").await.unwrap().failure.is_some());
    assert_eq!(steps(&rig.world).last(), Some(&(CreateStep::Lease, Err(ErrorCode::Network))));
    assert_eq!(creates(&rig.world)[0].1, Err(ErrorCode::Network));
}

#[tokio::test(start_paused = true)]
async fn a_create_that_joins_another_is_not_told() {
    let rig = Rig::new();
    let mut request = samples::request("web");
    request.request_id = "same".to_owned();
    let spec = ghost_core::domain::VmSpec::parse(request, &samples::catalog()).unwrap();
    let (one, two) = (samples::origin("one"), samples::origin("two"));
    let (first, second) = futures_util::future::join(
        rig.create.run(spec.clone(), &one),
        rig.create.run(spec.clone(), &two),
    )
    .await;
    assert_eq!(first.unwrap().id, second.unwrap().id);
    rig.create.run(spec, &two).await.unwrap();
    assert_eq!((creates(&rig.world).len(), steps(&rig.world).len()), (1, 8));
}

#[tokio::test(start_paused = true)]
async fn a_delete_counts_once_whoever_ends_it_and_a_failed_create_is_none() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    rig.vm("data").await.unwrap();
    rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!(deleted(&rig.world), 1);
    rig.world.faults.fail_always("ensure_no_overlay");
    rig.delete.run(&by_name("data"), &samples::origin("r")).await.unwrap_err();
    assert_eq!(deleted(&rig.world), 1);
    rig.world.faults.heal();
    rig.reconcile.run().await.unwrap();
    assert_eq!(deleted(&rig.world), 2);
    rig.world.faults.fail_always("define");
    rig.vm("late").await.unwrap_err();
    assert_eq!(deleted(&rig.world), 2);
}

#[tokio::test(start_paused = true)]
async fn signs_of_life_and_what_was_reported_are_told() {
    let talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.pass(100).await;
    let beats = |world: &World| {
        let noted = world.meter.noted();
        let beat = |one: &Measured| match one {
            Measured::Heartbeat { taken, .. } => Some(*taken),
            _ => None,
        };
        noted.iter().filter_map(beat).collect::<Vec<_>>()
    };
    let before = beats(&talk.rig.world);
    assert!(before.len() >= 3 && before.iter().all(|taken| *taken), "{before:?}");
    let reported = talk.rig.world.meter.noted().into_iter().map(|one| match one {
        Measured::Reported { events } => events,
        _ => 0,
    });
    assert_eq!(reported.sum::<u64>(), talk.queue.last().await);
    talk.plane.conducts(Conduct::Away(Duration::ZERO));
    talk.pass(120).await;
    assert_eq!(beats(&talk.rig.world).last(), Some(&false));
}
