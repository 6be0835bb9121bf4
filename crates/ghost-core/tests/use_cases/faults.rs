//! What the use cases promise when any one of their steps fails, or the process dies at it.

use crate::rig::{Rig, by_name};
use ghost_core::application::{Limits, StopMode};
use ghost_core::testing::{FaultMoment, World, samples};

/// More steps than any use case has.
const STEPS: usize = 60;
const MOMENTS: [FaultMoment; 2] = [FaultMoment::Before, FaultMoment::After];

/// Fault: any call of a create fails, before or after it was done. Promise: 1. Result: the caller is told, and
/// nothing is left.
#[tokio::test(start_paused = true)]
async fn a_create_that_fails_at_any_step_leaves_nothing() {
    for moment in MOMENTS {
        let mut struck = 0;
        for step in 0..STEPS {
            let rig = Rig::new();
            rig.world.faults.fail_at(step, moment);
            let result = rig.vm("web").await;
            if !rig.world.faults.struck() {
                break;
            }
            struck += 1;
            let call = rig.world.faults.calls()[step];
            assert!(result.is_err(), "{call} failed {moment:?} and nobody noticed");
            rig.assert_nothing_left();
        }
        assert!((12..STEPS).contains(&struck), "the create has {struck} steps");
    }
}

/// Fault: a create fails, and all that would take it back. Promise: 1. Result: the VM stays known as `deleting`; a
/// delete, or a later reconcile, leaves nothing.
#[tokio::test(start_paused = true)]
async fn a_create_whose_undo_fails_too_is_removed_by_a_later_delete_or_reconcile() {
    for step in 0..STEPS {
        let rig = Rig::new();
        rig.world.faults.dead_from(step);
        let failed = rig.vm("web").await.is_err();
        rig.world.faults.heal();
        if !failed {
            assert!(step > 12, "the create has {step} steps");
            return;
        }
        if rig.status_of("web").is_some() {
            assert_eq!(rig.status_of("web"), Some("deleting"));
            if step % 2 == 0 {
                rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
            } else {
                rig.reconcile.run().await.unwrap();
            }
        }
        rig.assert_nothing_left();
    }
    panic!("the create never ended");
}

/// Fault: the agent dies at any call of a create. Promise: 1. Result: its successor leaves nothing.
#[tokio::test(start_paused = true)]
async fn a_process_that_dies_at_any_step_of_a_create_leaves_nothing_to_its_successor() {
    let steps = {
        let rig = Rig::new();
        rig.vm("web").await.unwrap();
        rig.world.faults.calls()
    };
    for (n, call) in steps.iter().enumerate() {
        // Dead from step n on: nothing that the dying process does reaches the world any more.
        let world = World::new();
        world.faults.dead_from(n);
        assert!(Rig::on(world.clone(), Limits::default()).vm("web").await.is_err(), "{call}");
        world.faults.heal();
        let successor = Rig::on(world, Limits::default());
        successor.reconcile.adopt().await.unwrap();
        successor.reconcile.run().await.unwrap();
        successor.assert_nothing_left();
    }
}

/// Fault: any call of a delete fails, before or after it was done. Promise: 1. Result: repeated, it converges.
#[tokio::test(start_paused = true)]
async fn a_delete_that_fails_at_any_step_converges_when_repeated() {
    for moment in MOMENTS {
        let mut struck = 0;
        for step in 0..STEPS {
            let rig = Rig::new();
            rig.vm("web").await.unwrap();
            rig.world.faults.fail_at(step, moment);
            let result = rig.delete.run(&by_name("web"), &samples::origin("r")).await;
            if !rig.world.faults.struck() {
                break;
            }
            struck += 1;
            assert!(result.is_err(), "step {step} failed {moment:?} and nobody noticed");
            rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
            rig.assert_nothing_left();
        }
        assert_eq!(struck, 6, "save, domain, seed, disk, address, record");
    }
}

/// Fault: any call of a start fails, before or after it was done. Promise: 1, 10. Result: the caller is told; repeated,
/// it succeeds.
#[tokio::test(start_paused = true)]
async fn a_start_that_fails_at_any_step_can_be_repeated_and_is_not_half_recorded() {
    for moment in MOMENTS {
        for step in 0..STEPS {
            let rig = Rig::new();
            let _watch = rig.watch();
            rig.vm("web").await.unwrap();
            rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
            rig.world.faults.fail_at(step, moment);
            let result = rig.start.run(&by_name("web"), &samples::origin("r")).await;
            if !rig.world.faults.struck() {
                assert!(step >= 4);
                break;
            }
            assert!(result.is_err() || result.unwrap().note.is_some(), "step {step} {moment:?}");
            rig.world.faults.heal();
            rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
            assert_eq!(rig.status_of("web"), Some("running"));
        }
    }
}

/// Fault: any call of a stop fails, before or after it was done. Promise: 1, 10. Result: the caller is told; repeated,
/// it succeeds.
#[tokio::test(start_paused = true)]
async fn a_stop_that_fails_at_any_step_can_be_repeated() {
    for mode in [StopMode::Graceful, StopMode::Force] {
        for moment in MOMENTS {
            for step in 0..STEPS {
                let rig = Rig::new();
                let _watch = rig.watch();
                rig.vm("web").await.unwrap();
                rig.world.faults.fail_at(step, moment);
                let result = rig.stop.run(&by_name("web"), mode, &samples::origin("r")).await;
                if !rig.world.faults.struck() {
                    assert!(step >= 2);
                    break;
                }
                assert!(result.is_err(), "step {step} {moment:?}");
                rig.stop.run(&by_name("web"), mode, &samples::origin("r")).await.unwrap();
                assert_eq!(rig.status_of("web"), Some("stopped"));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn vms_of_a_former_process_are_known_to_its_successor() {
    let world = World::new();
    Rig::on(world.clone(), Limits::default()).vm("web").await.unwrap();
    let successor = Rig::on(world, Limits::default());
    successor.reconcile.adopt().await.unwrap();
    successor.reconcile.run().await.unwrap();
    assert_eq!(successor.status_of("web"), Some("running"));
}
