//! Which command caused what: the ledger, the watchers and the control plane say it.

use std::time::Duration;

use crate::control_plane::Talk;
use crate::rig::{Rig, by_name};
use ghost_core::application::{StopMode, WatchEvent, Watching};
use ghost_core::domain::{OffCause, Origin, PowerState, Sighting, VmRecord};
use ghost_core::ports::{EventQueue as _, VmLedger as _};
use ghost_core::testing::{Conduct, FakeControlPlane, samples};

/// The changes that were told, each with the id of the command that caused it.
async fn told(watching: &mut Watching) -> Vec<(String, Option<String>)> {
    let mut all = Vec::new();
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(1), watching.next()).await {
        let (what, origin) = match next.unwrap().1 {
            WatchEvent::State(_) | WatchEvent::Synced => continue,
            WatchEvent::Changed(vm, origin) => (vm.status.as_str(), origin),
            WatchEvent::Deleted(_, _, origin) => ("deleted", origin),
        };
        all.push((what.to_owned(), origin.map(|origin| origin.request_id.to_string())));
    }
    all.dedup();
    all
}

fn by(what: &str, origin: &str) -> (String, Option<String>) {
    (what.to_owned(), Some(origin.to_owned()))
}

#[tokio::test(start_paused = true)]
async fn each_change_names_the_command_that_caused_it() {
    let rig = Rig::new();
    let _watcher = rig.watch();
    let mut watching = rig.watch_vms.run("").unwrap();
    rig.create.run(samples::spec("web"), &samples::origin("create")).await.unwrap();
    assert_eq!(told(&mut watching).await, [by("creating", "create"), by("running", "create")]);
    let stop = samples::origin("stop");
    rig.stop.run(&by_name("web"), StopMode::Graceful, &stop).await.unwrap();
    assert_eq!(told(&mut watching).await, [by("stopped", "stop")]);
    rig.start.run(&by_name("web"), &samples::origin("start")).await.unwrap();
    // What it was stopped by is no reason any more.
    assert_eq!(told(&mut watching).await, [by("stopped", "start"), by("running", "start")]);
    rig.delete.run(&by_name("web"), &samples::origin("delete")).await.unwrap();
    assert_eq!(told(&mut watching).await, [by("deleting", "delete"), by("deleted", "delete")]);
}

#[tokio::test(start_paused = true)]
async fn a_guest_that_powers_itself_off_was_commanded_by_nobody() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let mut watching = rig.watch_vms.run("").unwrap();
    let id = rig.status.run(&by_name("web")).unwrap().record.id;
    rig.registry.see(id, Sighting::Power(PowerState::Off(OffCause::Guest)));
    let told = told(&mut watching).await;
    assert_eq!(told, [("stopped".to_owned(), None)]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_command_leaves_the_cause_of_the_one_under_way() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let mut watching = rig.watch_vms.run("").unwrap();
    let (_operation, record) =
        rig.registry.begin(&by_name("web"), Some(&samples::origin("first"))).unwrap();
    rig.delete.run(&by_name("web"), &samples::origin("second")).await.unwrap_err();
    rig.registry.see(record.id, Sighting::Power(PowerState::Crashed));
    assert_eq!(told(&mut watching).await, [by("error", "first")]);
}

#[tokio::test(start_paused = true)]
async fn the_ledger_holds_the_last_command_and_a_failed_one_gives_way_to_the_one_before() {
    let rig = Rig::new();
    let last = async || {
        let records = rig.world.load().await.unwrap();
        records[0].origin.as_ref().map(|origin| origin.request_id.to_string())
    };
    rig.create.run(samples::spec("web"), &samples::origin("create")).await.unwrap();
    assert_eq!(last().await.as_deref(), Some("create"));
    rig.stop.run(&by_name("web"), StopMode::Force, &samples::origin("stop")).await.unwrap();
    assert_eq!(last().await.as_deref(), Some("stop"));
    rig.world.faults.fail_always("ensure_started");
    rig.start.run(&by_name("web"), &samples::origin("start")).await.unwrap_err();
    assert_eq!(last().await.as_deref(), Some("stop"));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_left_is_ended_in_the_name_of_its_command() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    rig.world.faults.fail_always("ensure_no_overlay");
    rig.delete.run(&by_name("web"), &samples::origin("delete")).await.unwrap_err();
    rig.world.faults.heal();
    let next = Rig::on(rig.world.clone(), ghost_core::application::Limits::default());
    next.reconcile.adopt().await.unwrap();
    let mut watching = next.watch_vms.run("").unwrap();
    next.reconcile.run().await.unwrap();
    assert_eq!(told(&mut watching).await, [by("deleted", "delete")]);
}

#[tokio::test(start_paused = true)]
async fn the_control_plane_learns_the_command_even_if_it_was_away() {
    let rig = Rig::new();
    let plane = FakeControlPlane::new(rig.world.clock.clone());
    plane.conducts(Conduct::Away(Duration::ZERO));
    let talk = Talk::with(rig, plane, std::sync::Arc::default()).await;
    let traced = Origin {
        traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok(),
        ..samples::origin("create")
    };
    talk.rig.create.run(samples::spec("web"), &traced).await.unwrap();
    talk.pass(1).await;
    let waiting = talk.queue.oldest(9).await;
    assert!(!waiting.is_empty());
    assert!(waiting.iter().all(|event| event.origin.as_ref() == Some(&traced)), "{waiting:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_of_an_earlier_version_is_read() {
    let rig = Rig::new();
    rig.vm("web").await.unwrap();
    let record = rig.world.load().await.unwrap().remove(0);
    let mut json = serde_json::to_value(&record).unwrap();
    assert_eq!(json["origin"]["request_id"], "r");
    json.as_object_mut().unwrap().remove("origin");
    let old: VmRecord = serde_json::from_value(json).unwrap();
    assert_eq!(old, VmRecord { origin: None, ..record });
}
