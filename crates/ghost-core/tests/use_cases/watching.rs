//! Watching VMs, and the host.

use std::time::Duration;

use crate::rig::{AGENT, Rig, by_name};
use ghost_core::application::{Limits, StopMode, WatchEvent, Watching};
use ghost_core::domain::{ErrorKind, Gib, ReservationRule, Reserve};
use ghost_core::ports::Clock as _;
use ghost_core::testing::samples;
use uuid::Uuid;

/// The next events that are there already, as text, and the last token.
async fn told(watching: &mut Watching) -> (Vec<String>, String) {
    let (mut all, mut last) = (Vec::new(), String::new());
    while let Ok(next) = tokio::time::timeout(Duration::from_millis(1), watching.next()).await {
        let (token, event) = next.unwrap();
        all.push(match event {
            WatchEvent::State(vm) => format!("state {} {}", vm.record.name, vm.status.as_str()),
            WatchEvent::Synced => "synced".to_owned(),
            WatchEvent::Changed(vm, _) => {
                format!("changed {} {}", vm.record.name, vm.status.as_str())
            }
            WatchEvent::Deleted(_, name, _) => format!("deleted {name}"),
        });
        last = token;
    }
    (all, last)
}

#[tokio::test(start_paused = true)]
async fn a_watcher_is_told_all_vms_and_then_every_change_in_order() {
    let rig = Rig::new();
    rig.vm("anna").await.unwrap();
    let mut watching = rig.watch_vms.run("").unwrap();
    // Who leaves before "synced" has nothing to go on from.
    assert_eq!(watching.next().await.unwrap().0, "");
    assert_eq!(told(&mut watching).await.0, ["synced"]);
    rig.vm("bert").await.unwrap();
    rig.stop.run(&by_name("anna"), StopMode::Force, &samples::origin("r")).await.unwrap();
    rig.delete.run(&by_name("bert"), &samples::origin("r")).await.unwrap();
    let expected = [
        "changed bert creating",
        // With its address.
        "changed bert creating",
        "changed bert running",
        "changed anna stopped",
        "changed bert deleting",
        "deleted bert",
    ];
    assert_eq!(told(&mut watching).await.0, expected);
}

#[tokio::test(start_paused = true)]
async fn a_broken_connection_goes_on_behind_its_last_event() {
    let rig = Rig::new();
    let mut first = rig.watch_vms.run("").unwrap();
    rig.vm("anna").await.unwrap();
    let (_, token) = told(&mut first).await;
    drop(first);
    rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    let mut second = rig.watch_vms.run(&token).unwrap();
    assert_eq!(told(&mut second).await.0, ["changed anna deleting", "deleted anna"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_a_former_process_or_too_old_begins_anew() {
    let rig = Rig::new();
    rig.vm("anna").await.unwrap();
    let (_, token) = told(&mut rig.watch_vms.run("").unwrap()).await;
    let next = Rig::on(rig.world.clone(), Limits::default());
    next.reconcile.adopt().await.unwrap();
    let mut watching = next.watch_vms.run(&token).unwrap();
    assert_eq!(told(&mut watching).await.0, ["state anna running", "synced"]);

    for _ in 0..400 {
        rig.vm("bert").await.unwrap();
        rig.delete.run(&by_name("bert"), &samples::origin("r")).await.unwrap();
    }
    let mut watching = rig.watch_vms.run(&token).unwrap();
    assert_eq!(told(&mut watching).await.0, ["state anna running", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn a_watcher_that_is_too_slow_is_told_everything_anew() {
    let rig = Rig::new();
    let mut watching = rig.watch_vms.run("").unwrap();
    for _ in 0..400 {
        rig.vm("anna").await.unwrap();
        rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    }
    rig.vm("bert").await.unwrap();
    let (all, _) = told(&mut watching).await;
    assert_eq!(all, ["synced", "state bert running", "synced"]);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_agent_or_made_up_is_refused() {
    let rig = Rig::new();
    let other = format!("{}:{}:1", Uuid::from_u128(8), Uuid::from_u128(9));
    for wrong in [other.as_str(), "x", "::", "1:2:3:4", &format!("{AGENT}:{AGENT}:-1")] {
        let refused = rig.watch_vms.run(wrong).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Validation, "{wrong}");
        assert!(refused.to_string().starts_with("resume_token: "), "{refused}");
    }
    // From the future of this process: begun anew.
    let epoch = rig.registry.epoch();
    let mut watching = rig.watch_vms.run(&format!("{AGENT}:{epoch}:99")).unwrap();
    assert_eq!(told(&mut watching).await.0, ["synced"]);
}

#[tokio::test(start_paused = true)]
async fn the_host_is_told_from_memory() {
    let reserved = ReservationRule { ram: Reserve::Exactly(56), ..ReservationRule::NOTHING };
    let rig = Rig::with(Limits { reserved, ..Limits::default() });
    assert_eq!(rig.node_info.run().unwrap_err().kind(), ErrorKind::HypervisorUnavailable);
    let _watch = rig.watch();
    rig.vm("anna").await.unwrap();
    rig.world.clock.sleep(Duration::from_secs(11)).await;
    rig.world.faults.dead_from(0);
    let node = rig.node_info.run().unwrap();
    assert_eq!((node.vms, node.running), (1, 1));
    let gib = f64::from(1 << 30);
    let ram = node.resources.ram;
    let allocated = Gib::within(1..=1, 1).unwrap().bytes().0 as f64;
    assert_eq!((ram.total, ram.reserved, ram.allocated), (256.0 * gib, 56.0 * gib, allocated));
    assert_eq!((ram.available, ram.deficit), (200.0 * gib - allocated, 0.0));
    assert_eq!((node.resources.cpu.total, node.resources.cpu.available), (64.0, 63.0));
    assert!((node.resources.cpu.used - 0.5).abs() < 0.01, "{:?}", node.resources.cpu);
}
