//! Sequences that a reviewer found: each was a bug once.

use std::time::Duration;

use crate::rig::{Rig, by_name};
use ghost_core::application::{Limits, StopMode};
use ghost_core::domain::{Change, Desired, PowerState, Sighting, VmId, VmStage};
use ghost_core::ports::{Clock as _, Hypervisor as _, Network as _, VmLedger as _};
use ghost_core::testing::{FaultMoment, Guest, samples};

async fn power(rig: &Rig, id: VmId) -> String {
    let all = rig.world.observe().await.unwrap();
    all.into_iter().find(|one| one.id == id).map_or("none".to_owned(), |one| one.power.to_string())
}

/// A new process that has read the ledger, and nothing else yet.
async fn next(rig: &Rig) -> Rig {
    let next = Rig::on(rig.world.clone(), Limits::default());
    next.reconcile.adopt().await.unwrap();
    next
}

async fn one_vm() -> (Rig, VmId) {
    let rig = Rig::new();
    let id = rig.vm("web").await.unwrap().id;
    (rig, id)
}

/// Longer than a reconcile takes to come round.
const A_MINUTE: Duration = Duration::from_secs(61);

/// Fault: after a boot somebody else has started a VM, such as libvirt-guests. Promise: 2. Result: its uptime counts
/// from then; when its guest powers itself off it stays off.
#[tokio::test(start_paused = true)]
async fn a_guest_that_was_started_before_the_agent_is_of_this_boot() {
    let (rig, web) = one_vm().await;
    rig.world.reboot();
    rig.world.power_on(web);
    let next = next(&rig).await;
    let _watch = next.watch();
    rig.world.clock.sleep(Duration::from_secs(300)).await;
    let now = rig.world.ports().boot_moment().await.unwrap();
    assert_eq!(next.status.run(&by_name("web")).unwrap().uptime(now).as_secs(), 300);
    rig.world.guest_powers_off(web);
    rig.world.clock.sleep(A_MINUTE).await;
    assert_eq!(power(&rig, web).await, "off");
}

/// Fault: the agent dies right after it has powered a VM on, in a new boot. Promise: 2. Result: the VM counts as started in
/// this boot.
#[tokio::test(start_paused = true)]
async fn a_start_that_was_cut_off_is_of_this_boot() {
    let (rig, web) = one_vm().await;
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.world.reboot();
    let second = next(&rig).await;
    second.reconcile.run().await.unwrap();
    // After: lease, save, ensure_started.
    rig.world.faults.dead_from(3);
    second.start.run(&by_name("web"), &samples::origin("r")).await.unwrap_err();
    rig.world.faults.heal();
    let third = next(&rig).await;
    let _watch = third.watch();
    rig.world.clock.sleep(A_MINUTE).await;
    assert_eq!(power(&rig, web).await, "running");
    rig.world.guest_powers_off(web);
    rig.world.clock.sleep(A_MINUTE).await;
    assert_eq!(power(&rig, web).await, "off");
}

/// Fault: a create is made and undone while libvirt's answer about all domains is on its way. Promise: 1. Result: the
/// answer does not make a VM of it.
#[tokio::test(start_paused = true)]
async fn a_create_that_was_undone_during_a_look_stays_undone() {
    let rig = Rig::new();
    rig.world.guests(Guest::TakesNoAddress);
    rig.world.faults.linger("kept", Duration::from_secs(1));
    let spec = || {
        let mut spec = samples::spec("web");
        spec.request_id = Some("r-1".parse().unwrap());
        spec
    };
    let looks = async {
        rig.world.faults.until_called("ensure_started").await;
        let crashes = async {
            let id = rig.registry.views()[0].record.id;
            rig.world.clock.sleep(Duration::from_millis(100)).await;
            rig.world.crash(id);
            rig.registry.see(id, Sighting::Power(PowerState::Crashed));
        };
        futures_util::future::join(rig.reconcile.look(), crashes).await.0.unwrap();
    };
    let ((), made) =
        futures_util::future::join(looks, rig.create.run(spec(), &samples::origin("r"))).await;
    made.unwrap_err();
    rig.assert_nothing_left();
    assert!(
        rig.create.run(spec(), &samples::origin("r")).await.is_err(),
        "a retry was given a VM that does not exist"
    );
}

/// Fault: a start comes for a VM whose stop was cut off, before it was resumed. Promise: 8. Result: the VM runs, and is not
/// stopped afterwards.
#[tokio::test(start_paused = true)]
async fn a_start_overrules_a_stop_that_was_cut_off() {
    let (rig, web) = one_vm().await;
    let mut record = rig.world.record(web).unwrap();
    record.stage =
        VmStage::Ready { desired: Desired::Stopped, change: Change::UnderWay, failure: None };
    rig.world.save(&record).await.unwrap();
    let next = next(&rig).await;
    next.reconcile.look().await.unwrap();
    next.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    let _watch = next.watch();
    rig.world.clock.sleep(Duration::from_secs(130)).await;
    assert_eq!(power(&rig, web).await, "running");
}

/// Fault: what kept a VM from being reconciled is cured past the agent. Promise: 10. Result: it is not shown any more.
#[tokio::test(start_paused = true)]
async fn a_problem_that_was_cured_is_not_shown_any_more() {
    let (rig, _) = one_vm().await;
    rig.world.reboot();
    let next = next(&rig).await;
    next.reconcile.look().await.unwrap();
    // After: facts.
    rig.world.faults.fail_at(1, FaultMoment::Before);
    next.reconcile.act_on_all().await;
    assert!(next.status.run(&by_name("web")).unwrap().reason.is_some());
    next.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    let _watch = next.watch();
    rig.world.clock.sleep(A_MINUTE).await;
    assert_eq!(next.status.run(&by_name("web")).unwrap().reason, None);
}

/// Fault: the ledger can't take in a record that was lost. Promise: 1. Result: it is tried again within seconds.
#[tokio::test(start_paused = true)]
async fn a_lost_record_that_cannot_be_saved_is_tried_again() {
    let (rig, web) = one_vm().await;
    rig.world.lose_record(web);
    let next = next(&rig).await;
    // After: observe, kept.
    rig.world.faults.fail_at(2, FaultMoment::Before);
    let _watch = next.watch();
    rig.world.clock.sleep(Duration::from_secs(11)).await;
    assert!(rig.world.faults.struck());
    assert_eq!(next.status_of("web"), Some("running"));
}

/// Fault: two domains appear late, and are looked for at once, at any pace. Promise: 1. Result: neither becomes a VM because
/// of the other's end.
#[tokio::test(start_paused = true)]
async fn late_domains_do_not_revive_each_other() {
    for seed in 0..40 {
        let rig = Rig::new();
        let _watch = rig.watch();
        rig.world.clock.sleep(Duration::from_secs(10)).await;
        for id in [VmId::generate(), VmId::generate()] {
            rig.registry.suspect(id, Duration::from_secs(60));
            rig.world.define_late(id);
        }
        rig.world.faults.interleave(seed);
        rig.world.clock.sleep(Duration::from_secs(200)).await;
        assert_eq!(rig.world.left(), Vec::<String>::new(), "seed {seed}");
    }
}

/// Fault: a domain appears after its undo, and the agent was started again in between. Promise: 1. Result: without a disk it is
/// no VM: it is removed.
#[tokio::test(start_paused = true)]
async fn a_late_domain_is_no_vm_for_a_later_process_either() {
    let rig = Rig::new();
    let _watch = rig.watch();
    rig.world.define_late(VmId::generate());
    let next = next(&rig).await;
    let _watch = next.watch();
    rig.world.clock.sleep(Duration::from_secs(200)).await;
    next.assert_nothing_left();
}

/// Fault: a start comes while libvirt is away and the VM, last seen running, is not. Promise: 8. Result: the caller is not told
/// that it runs.
#[tokio::test(start_paused = true)]
async fn a_start_does_not_believe_what_is_only_remembered() {
    let (rig, web) = one_vm().await;
    rig.registry.lost_contact();
    rig.world.crash(web);
    rig.start.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    assert_eq!(power(&rig, web).await, "running");
}

/// Fault: a stop comes while a start that was given up may still take effect. Promise: 1. Result: libvirt is asked, not the
/// memory.
#[tokio::test(start_paused = true)]
async fn a_stop_of_what_seems_to_be_off_asks_libvirt() {
    let (rig, web) = one_vm().await;
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.world.power_on(web);
    rig.stop.run(&by_name("web"), StopMode::Graceful, &samples::origin("r")).await.unwrap();
    assert_eq!(power(&rig, web).await, "off");
}

/// Fault: the ledger's disk fails after a delete or stop was written, and the caller is told so. Promise: 1. Result: the next
/// process does not do it.
#[tokio::test(start_paused = true)]
async fn what_was_refused_is_not_done_by_the_next_process() {
    for delete in [true, false] {
        let (rig, web) = one_vm().await;
        rig.world.faults.fail_at(0, FaultMoment::After);
        if delete {
            rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap_err();
        } else {
            rig.stop
                .run(&by_name("web"), StopMode::Graceful, &samples::origin("r"))
                .await
                .unwrap_err();
        }
        let next = next(&rig).await;
        let _watch = next.watch();
        rig.world.clock.sleep(Duration::from_secs(100)).await;
        assert_eq!(
            (power(&rig, web).await.as_str(), next.status_of("web")),
            ("running", Some("running"))
        );
    }
}

/// Fault: none: a VM is deleted. Promise: 1. Result: a minute later what may be left of it is looked for, once.
#[tokio::test(start_paused = true)]
async fn what_is_gone_is_looked_for_once_more_and_then_forgotten() {
    let (rig, _) = one_vm().await;
    let _watch = rig.watch();
    rig.delete.run(&by_name("web"), &samples::origin("r")).await.unwrap();
    let looks =
        || rig.world.faults.calls().iter().filter(|call| **call == "ensure_undefined").count();
    assert_eq!(looks(), 1);
    rig.world.clock.sleep(Duration::from_secs(600)).await;
    assert_eq!(looks(), 2);
}

/// Fault: libvirt has lost a domain and its reserved address, and another VM has taken that. Promise: 1. Result: the VM gets
/// another address, in the ledger and in the domain's metadata alike.
#[tokio::test(start_paused = true)]
async fn an_address_that_was_lost_with_its_domain_is_replaced_everywhere() {
    let (rig, web) = one_vm().await;
    rig.world.reboot();
    rig.world.undefine(web);
    rig.world.release_address(web).await.unwrap();
    let former = rig.world.record(web).unwrap().address;
    assert_eq!(rig.vm("other").await.unwrap().address, former);
    let next = next(&rig).await;
    next.reconcile.run().await.unwrap();
    let recorded = rig.world.record(web).unwrap().address;
    assert_ne!(recorded, former);
    let kept = rig.world.kept().await.unwrap().into_iter().find(|one| one.id == web).unwrap();
    assert_eq!(kept.record.unwrap().address, recorded);
}
