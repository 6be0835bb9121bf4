//! What a process that starts, or that sees libvirt again, makes of what it finds.

use std::time::Duration;

use crate::rig::{Rig, by_name};
use ghost_core::application::{Limits, StopMode};
use ghost_core::domain::{AppError, ErrorKind, PowerState, Sighting, VmId};
use ghost_core::ports::{Clock as _, Hypervisor as _};
use ghost_core::testing::{FaultMoment, Guest, World, samples};

/// A new process on the host, which has taken in what there is and acted on it.
async fn successor(rig: &Rig) -> Rig {
    let next = Rig::on(rig.world.clone(), Limits::default());
    next.reconcile.adopt().await.unwrap();
    next.reconcile.run().await.unwrap();
    next
}

fn reason(rig: &Rig) -> String {
    rig.status.run(&by_name("web")).unwrap().reason.clone().unwrap_or_default()
}

async fn one_vm() -> (Rig, VmId) {
    let rig = Rig::new();
    let id = rig.vm("web").await.unwrap().id;
    (rig, id)
}

async fn power(rig: &Rig, id: VmId) -> String {
    let all = rig.world.observe().await.unwrap();
    all.into_iter().find(|one| one.id == id).map_or("none".to_owned(), |one| one.power.to_string())
}

/// Fault: the host is booted anew. Promise: 1, 2. Result: what ran runs again, what was off stays off.
#[tokio::test(start_paused = true)]
async fn after_a_reboot_of_the_host_each_vm_is_what_it_was() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    let off = rig.vm("off").await.unwrap().id;
    rig.stop.run(&by_name("off"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    rig.world.reboot();
    let next = successor(&rig).await;
    assert_eq!(
        (power(&rig, web).await.as_str(), power(&rig, off).await.as_str()),
        ("running", "off")
    );
    assert_eq!((next.status_of("web"), next.status_of("off")), (Some("running"), Some("stopped")));
    assert_eq!(reason(&next), "");
}

/// Fault: the host is booted anew and libvirt has lost a domain. Promise: 1, 2. Result: it is defined
/// again, and runs if it did.
#[tokio::test(start_paused = true)]
async fn a_domain_that_was_lost_with_the_host_is_defined_and_started_again() {
    let (rig, web) = one_vm().await;
    rig.world.reboot();
    rig.world.undefine(web);
    let next = successor(&rig).await;
    assert_eq!(
        (power(&rig, web).await.as_str(), next.status_of("web")),
        ("running", Some("running"))
    );
}

/// Fault: a domain is undefined past the agent while its guest runs. Promise: 1, 2. Result: the guest runs
/// on, and its definition is kept again.
#[tokio::test(start_paused = true)]
async fn a_running_domain_without_its_definition_gets_it_back() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    rig.world.undefine(web);
    rig.world.faults.until_called("define").await;
    rig.world.clock.sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.status_of("web"), Some("running"));
    rig.world.guest_powers_off(web);
    assert_eq!(power(&rig, web).await, "off");
}

/// Fault: a guest powers itself off. Promise: 8. Result: stopped, with the reason; it is not started
/// again by the next boot of the host.
#[tokio::test(start_paused = true)]
async fn a_guest_that_powered_itself_off_stays_off() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    rig.world.guest_powers_off(web);
    rig.world.clock.sleep(Duration::from_millis(1)).await;
    assert_eq!(rig.status_of("web"), Some("stopped"));
    let told = "the guest powered itself off; start it again with: agentctl vm start web";
    assert_eq!(reason(&rig), told);
    rig.world.clock.sleep(Duration::from_secs(61)).await;
    assert_eq!(reason(&rig), told);
    rig.world.reboot();
    let next = successor(&rig).await;
    assert_eq!((power(&rig, web).await.as_str(), reason(&next).as_str()), ("off", told));
    next.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!(reason(&next), "");
}

/// Fault: QEMU dies. Promise: 8. Result: error, with the reason; a start brings it back.
#[tokio::test(start_paused = true)]
async fn a_guest_whose_qemu_died_is_an_error_that_a_start_cures() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    rig.world.crash(web);
    rig.world.clock.sleep(Duration::from_secs(130)).await;
    assert_eq!(rig.status_of("web"), Some("error"));
    assert!(reason(&rig).contains("QEMU died") && reason(&rig).contains("vm start web"));
    rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!((rig.status_of("web"), reason(&rig).as_str()), (Some("running"), ""));
}

/// Fault: a VM is powered on past the agent. Promise: 8. Result: that is what it shall be from now on.
#[tokio::test(start_paused = true)]
async fn a_vm_that_an_operator_powered_on_is_started_again_after_a_reboot() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.world.power_on(web);
    rig.world.clock.sleep(Duration::from_secs(61)).await;
    rig.world.reboot();
    successor(&rig).await;
    assert_eq!(power(&rig, web).await, "running");
}

/// Fault: the record of a VM is lost. Promise: 1, 2. Result: it is made anew from libvirt's metadata.
#[tokio::test(start_paused = true)]
async fn a_lost_record_is_learned_from_libvirt() {
    let (rig, web) = one_vm().await;
    let before = rig.world.record(web).unwrap();
    rig.world.lose_record(web);
    let next = successor(&rig).await;
    assert_eq!(next.status_of("web"), Some("running"));
    let after = rig.world.record(web).unwrap();
    assert_eq!(
        (after.name, after.shape, after.address),
        (before.name, before.shape, before.address)
    );
    assert_eq!(after.stage, before.stage);
    next.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    next.assert_nothing_left();
}

/// Fault: the disk of a VM is deleted past the agent, then libvirt loses its domain. Promise: 10.
/// Result: error that says so; a delete takes the rest away; other VMs are not held up.
#[tokio::test(start_paused = true)]
async fn a_vm_whose_disk_is_gone_says_so_and_can_be_deleted() {
    let (rig, web) = one_vm().await;
    let other = rig.vm("other").await.unwrap().id;
    rig.world.reboot();
    for id in [web, other] {
        rig.world.undefine(id);
    }
    rig.world.remove_disk(web);
    let next = successor(&rig).await;
    assert_eq!(
        (next.status_of("web"), power(&rig, other).await.as_str()),
        (Some("error"), "running")
    );
    assert!(reason(&next).contains("the pool the VM's disk"), "{}", reason(&next));
    assert!(reason(&next).contains("agentctl vm delete web"));
    for name in ["web", "other"] {
        next.delete.run(&by_name(name), &samples::origin("r")).await.unwrap();
    }
    next.assert_nothing_left();
}

/// Fault: the agent dies at any step of a start, a stop or a delete. Promise: 1. Result: the next one
/// resumes it, and the VM is what was asked for, or what it was if that was not recorded.
#[tokio::test(start_paused = true)]
async fn what_a_dead_process_left_under_way_is_resumed() {
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Verb {
        Start,
        Stop,
        Delete,
    }
    for verb in [Verb::Start, Verb::Stop, Verb::Delete] {
        let mut finished = false;
        for step in 0..40 {
            let (rig, web) = one_vm().await;
            let watch = rig.watch();
            if verb == Verb::Start {
                rig.stop
                    .run(&by_name("web"), StopMode::Force, &samples::origin("r"))
                    .await
                    .unwrap();
            }
            rig.world.faults.dead_from(step);
            let done: Result<(), AppError> = match verb {
                Verb::Start => {
                    rig.start.run(&by_name("web"), &samples::origin("r")).await.map(drop)
                }
                Verb::Stop => rig
                    .stop
                    .run(&by_name("web"), StopMode::Graceful, &samples::origin("r"))
                    .await
                    .map(drop),
                Verb::Delete => rig.delete.run(&by_name("web"), &samples::origin("r")).await,
            };
            watch.abort();
            rig.world.faults.heal();
            let next = successor(&rig).await;
            let (status, is) = (next.status_of("web"), power(&rig, web).await);
            let case = format!("{verb:?}, dead from step {step}, {done:?}: {status:?}, {is}");
            match status {
                None => {
                    assert!(verb == Verb::Delete, "{case}");
                    next.assert_nothing_left();
                }
                Some(status) => {
                    assert_eq!(is == "running", status == "running", "{case}");
                    assert!(["running", "stopped"].contains(&status), "{case}");
                    let asked = if verb == Verb::Start { "running" } else { "stopped" };
                    assert!(done.is_err() || status == asked, "{case}");
                    next.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
                    next.assert_nothing_left();
                }
            }
            finished |= done.is_ok();
        }
        assert!(finished, "{verb:?} never ended");
    }
}

/// Fault: libvirt refuses to stop a VM. Promise: 10. Result: the caller is told, and the guest is not stopped
/// behind his back a minute later.
#[tokio::test(start_paused = true)]
async fn a_stop_or_start_that_failed_has_no_later_effect() {
    let (rig, web) = one_vm().await;
    let _watch = rig.watch();
    rig.world.faults.fail_at(1, FaultMoment::Before);
    rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap_err();
    rig.world.clock.sleep(Duration::from_secs(121)).await;
    assert_eq!(power(&rig, web).await, "running");
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.world.faults.fail_at(2, FaultMoment::Before);
    rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap_err();
    rig.world.clock.sleep(Duration::from_secs(121)).await;
    assert_eq!(power(&rig, web).await, "off");
}

/// Fault: a VM is started while libvirt's list of all domains is under way. Promise: 8. Result: the older
/// list does not hide it.
#[tokio::test(start_paused = true)]
async fn an_older_list_does_not_overwrite_a_newer_sighting() {
    let (rig, web) = one_vm().await;
    let asked = rig.registry.asking(Duration::ZERO);
    rig.registry.see(web, Sighting::Power(PowerState::Running));
    rig.registry.resync(asked, &[]);
    assert_eq!(rig.status_of("web"), Some("running"));
    rig.registry.resync(rig.registry.asking(Duration::ZERO), &[]);
    assert_eq!(rig.status_of("web"), Some("error"));
}

/// Fault: the agent dies while a guest is asked to power off. Promise: 1. Result: the next one asks again.
#[tokio::test(start_paused = true)]
async fn a_stop_that_was_cut_off_is_resumed() {
    let (rig, web) = one_vm().await;
    let watch = rig.watch();
    rig.world.faults.pause_at("ask_to_power_off");
    let vm = by_name("web");
    let origin = samples::origin("r");
    let stop = rig.stop.run(&vm, StopMode::Graceful, &origin);
    tokio::select! {
        _ = stop => panic!("it was to be held"),
        () = rig.world.faults.until_paused() => watch.abort(),
    }
    rig.world.faults.heal();
    let next = Rig::on(rig.world.clone(), Limits::default());
    next.reconcile.adopt().await.unwrap();
    let _watch = next.watch();
    rig.world.faults.until_called("ask_to_power_off").await;
    rig.world.clock.sleep(Duration::from_millis(1)).await;
    assert_eq!((next.status_of("web"), power(&rig, web).await.as_str()), (Some("stopped"), "off"));
}

/// Fault: libvirt does what a dead process asked for after its successor has undone it. Promise: 1.
/// Result: it is found within a minute, and removed; it does not become a VM.
#[tokio::test(start_paused = true)]
async fn what_appears_after_its_undo_is_removed() {
    let rig = Rig::new();
    rig.world.faults.pause_at("define");
    let create = rig.vm("web");
    let id = tokio::select! {
        _ = create => panic!("it was to be held"),
        () = rig.world.faults.until_paused() => rig.registry.views()[0].record.id,
    };
    rig.world.faults.heal();
    let next = successor(&rig).await;
    let watch = next.watch();
    next.assert_nothing_left();
    rig.world.define_late(id);
    rig.world.clock.sleep(Duration::from_secs(121)).await;
    next.assert_nothing_left();
    watch.abort();
}

/// Fault: one VM can't be reconciled. Promise: 7, 10. Result: the rest is; its reason is shown and logged once.
#[tokio::test(start_paused = true)]
async fn a_vm_that_cannot_be_removed_says_why() {
    let (rig, _) = one_vm().await;
    rig.world.faults.dead_from(1);
    let failed = rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap_err();
    assert_eq!(rig.status_of("web"), Some("deleting"));
    assert_eq!(reason(&rig), failed.to_string());
    rig.world.faults.heal();
    rig.reconcile.run().await.unwrap();
    rig.assert_nothing_left();
}

/// Fault: libvirt is away. Promise: 8. Result: reads are answered at once and say how old they are.
#[tokio::test(start_paused = true)]
async fn while_libvirt_is_away_what_is_known_has_an_age() {
    let (rig, _) = one_vm().await;
    let _watch = rig.watch();
    let age = || rig.registry.age(rig.world.clock.monotonic()).map(|age| age.as_secs());
    rig.world.clock.sleep(Duration::from_secs(6)).await;
    assert_eq!(age(), None);
    rig.world.faults.dead_from(0);
    rig.world.clock.sleep(Duration::from_secs(12)).await;
    assert_eq!((age(), rig.status_of("web")), (Some(13), Some("running")));
    rig.world.faults.heal();
    rig.world.clock.sleep(Duration::from_secs(5)).await;
    assert_eq!(age(), None);
}

/// Fault: the host's clock jumps by a year, either way, while guests boot, start and stop. Promise: 7.
/// Result: no false timeout; the uptime goes on.
#[tokio::test(start_paused = true)]
async fn jumps_of_the_clock_mean_nothing() {
    const YEAR: i64 = 365 * 24 * 3600;
    for jump in [YEAR, -YEAR] {
        let rig = Rig::new();
        let _watch = rig.watch();
        rig.world.guests(Guest::Boots(Duration::from_secs(20)));
        let jumps = async {
            rig.world.clock.sleep(Duration::from_secs(10)).await;
            rig.world.clock.jump(jump);
        };
        let (created, ()) = futures_util::future::join(rig.vm("web"), jumps).await;
        created.unwrap();
        let now = ghost_core::ports::Ports::boot_moment(&rig.world.ports()).await.unwrap();
        let view = rig.status.run(&by_name("web")).unwrap();
        assert_eq!(view.uptime(now).as_secs(), 20);

        rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
        let jumps = async {
            rig.world.clock.sleep(Duration::from_secs(10)).await;
            rig.world.clock.jump(jump);
        };
        let (started, ()) = futures_util::future::join(
            rig.start.run(&by_name("web"), &samples::origin("r")),
            jumps,
        )
        .await;
        assert_eq!(started.unwrap().note, None);
        rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
        rig.assert_nothing_left();
    }
}

/// Fault: a retry of a create comes while libvirt is away. Promise: 8. Result: it is answered from memory.
#[tokio::test(start_paused = true)]
async fn a_repeated_request_needs_no_libvirt() {
    let rig = Rig::new();
    let spec = || {
        let mut spec = ghost_core::testing::samples::spec("web");
        spec.request_id = Some("r-1".parse().unwrap());
        spec
    };
    let first = rig.create.run(spec(), &samples::origin("r")).await.unwrap();
    rig.world.faults.dead_from(0);
    assert_eq!(rig.create.run(spec(), &samples::origin("r")).await.unwrap().id, first.id);
    let other = rig.vm("other").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::HypervisorFailed);
}

/// Fault: 1,000 VMs are made and deleted, one after the other. Promise: 1. Result: nothing is left.
#[tokio::test(start_paused = true)]
async fn a_thousand_lives_leave_nothing() {
    let rig = Rig::on(World::new(), Limits::default());
    let watch = rig.watch();
    for _ in 0..1000 {
        rig.vm("web").await.unwrap();
        rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    }
    rig.assert_nothing_left();
    watch.abort();
}
