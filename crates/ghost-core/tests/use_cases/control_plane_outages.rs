//! The control plane is away, slow, silent or has forgotten: what arrives in the end.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{Limits, Link, StopMode};
use ghost_core::domain::backlog::Bounds;
use ghost_core::ports::{Clock as _, EventQueue as _};
use ghost_core::testing::control_plane::Call;
use ghost_core::testing::{Conduct, FakeControlPlane, MemoryQueue, samples};

use crate::control_plane::Talk;
use crate::rig::{Rig, by_name};

const CREATED: [&str; 3] = ["anna creating", "anna creating", "anna running"];

#[tokio::test(start_paused = true)]
async fn changes_arrive_within_a_second_and_in_order() {
    let talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.rig.stop.run(&by_name("anna"), StopMode::Force, &samples::origin("r")).await.unwrap();
    talk.rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    talk.pass(1).await;
    let after = ["anna stopped", "anna deleting", "anna deleted"];
    assert_eq!(talk.plane.events(), [&CREATED[..], &after[..]].concat());
    assert!(talk.queue.oldest(9).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_registration_that_is_answered_late_makes_nobody_tell_everything_anew() {
    let talk = Talk::new().await;
    talk.pass(40).await;
    talk.plane.conducts(Conduct::RegistersSlowly(Duration::from_secs(10)));
    talk.knowledge.cached.lock().unwrap().push("debian-12".parse().unwrap());
    drop(talk.letters());
    while !talk.letters().contains('r') {
        talk.pass(1).await;
    }
    // What is delivered now is not in the answer that is on its way.
    talk.rig.vm("anna").await.unwrap();
    talk.pass(60).await;
    assert_eq!(talk.plane.events(), CREATED);
    assert!(matches!(talk.link(), Link::Registered { count: 2, .. }), "{:?}", talk.link());
}

#[tokio::test(start_paused = true)]
async fn all_changes_of_a_minute_without_the_control_plane_arrive_in_order() {
    let talk = Talk::new().await;
    talk.pass(45).await;
    talk.plane.conducts(Conduct::Away(Duration::from_secs(3)));
    talk.rig.vm("anna").await.unwrap();
    talk.pass(20).await;
    talk.rig.stop.run(&by_name("anna"), StopMode::Force, &samples::origin("r")).await.unwrap();
    talk.pass(20).await;
    talk.rig.vm("bert").await.unwrap();
    talk.rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    talk.pass(20).await;
    assert_eq!(talk.plane.events(), Vec::<String>::new());
    assert!(matches!(talk.link(), Link::Away(Some(_))));
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(62).await;
    let after = [
        "anna stopped",
        "bert creating",
        "bert creating",
        "bert running",
        "anna deleting",
        "anna deleted",
    ];
    assert_eq!(talk.plane.events(), [&CREATED[..], &after[..]].concat());
    assert!(matches!(talk.link(), Link::Registered { count: 2, .. }), "{:?}", talk.link());
}

#[tokio::test(start_paused = true)]
async fn after_a_day_the_last_state_of_each_vm_arrives_and_the_queue_stayed_small() {
    let rig = Rig::new();
    let plane = FakeControlPlane::new(rig.world.clock.clone());
    plane.conducts(Conduct::Away(Duration::from_millis(5)));
    let bounds = Bounds { events: 64, bytes: 1 << 20 };
    let queue = Arc::new(MemoryQueue::resume(Default::default(), bounds));
    let talk = Talk::with(rig, plane, queue).await;
    talk.rig.vm("anna").await.unwrap();
    talk.rig.vm("bert").await.unwrap();
    for _ in 0..96 {
        talk.rig.stop.run(&by_name("anna"), StopMode::Force, &samples::origin("r")).await.unwrap();
        talk.rig.start.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
        talk.pass(900).await;
        assert!(talk.queue.oldest(1000).await.len() <= 64);
    }
    let tries = talk.letters().len();
    assert!((1440..6000).contains(&tries), "{tries}");
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(62).await;
    let events = talk.plane.events();
    let last = |name: &str| events.iter().rev().find(|event| event.starts_with(name)).cloned();
    assert_eq!(last("anna").as_deref(), Some("anna running"));
    assert_eq!(last("bert").as_deref(), Some("bert running"));
    assert!(talk.queue.oldest(9).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn lost_answers_cost_repetitions_and_nothing_else() {
    let talk = Talk::new().await;
    talk.pass(1).await;
    talk.plane.conducts(Conduct::LosesAnswers);
    talk.rig.vm("anna").await.unwrap();
    talk.pass(20).await;
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(62).await;
    assert_eq!(talk.plane.events(), CREATED);
    assert!(talk.queue.oldest(9).await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_silent_control_plane_holds_up_neither_heartbeats_nor_vms() {
    let talk = Talk::new().await;
    talk.pass(1).await;
    talk.plane.conducts(Conduct::Silent);
    let before = talk.rig.world.clock.monotonic();
    talk.rig.vm("anna").await.unwrap();
    assert!(talk.rig.world.clock.monotonic() - before < Duration::from_secs(1));
    talk.pass(120).await;
    let Link::Away(Some(error)) = talk.link() else { panic!("{:?}", talk.link()) };
    assert!(error.cause.contains("gave no answer in 15 s"), "{error}");
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(80).await;
    assert_eq!(talk.plane.events(), CREATED);
}

#[tokio::test(start_paused = true)]
async fn slow_answers_do_not_make_heartbeats_drift() {
    let talk = Talk::new().await;
    talk.pass(1).await;
    talk.plane.wants(Duration::from_secs(10));
    talk.plane.conducts(Conduct::Answers(Duration::from_secs(6)));
    talk.pass(40).await;
    drop(talk.letters());
    talk.pass(1000).await;
    let beats = talk.letters().matches('h').count();
    assert!((99..=101).contains(&beats), "{beats}");
}

#[tokio::test(start_paused = true)]
async fn one_that_keeps_nothing_is_not_flooded() {
    let talk = Talk::new().await;
    talk.plane.conducts(Conduct::KeepsNothing);
    talk.rig.vm("anna").await.unwrap();
    talk.pass(600).await;
    let reports = talk.letters().matches('e').count();
    assert!((10..60).contains(&reports), "{reports}");
    assert_eq!(talk.queue.oldest(9).await.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn changes_while_the_agent_was_down_are_told_deletions_included() {
    let mut talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.rig.vm("bert").await.unwrap();
    talk.rig.vm("carl").await.unwrap();
    talk.pass(1).await;
    drop(talk.close.take());
    (&mut talk.ended).await.unwrap();
    let before = talk.plane.events().len();
    let (world, plane) = (talk.rig.world.clone(), talk.plane.clone());
    let queue = MemoryQueue::resume(talk.queue.content(), Bounds::default());
    // Without this agent: one is deleted by the ledger's keeper, one crashes.
    talk.rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    let bert = talk.rig.registry.views()[0].record.id;
    drop(talk);
    world.crash(bert);
    let rig = Rig::on(world, Limits::default());
    rig.reconcile.adopt().await.unwrap();
    let talk = Talk::with(rig, plane, Arc::new(queue)).await;
    talk.pass(10).await;
    let mut news = talk.plane.events()[before..].to_vec();
    news.sort_unstable();
    assert_eq!(news, ["anna deleted", "bert error"]);
    let numbers: Vec<u64> = talk
        .plane
        .take_calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Report(_, numbers) => Some(numbers),
            Call::Register(..) | Call::Heartbeat(..) => None,
        })
        .flatten()
        .collect();
    assert_eq!(numbers.last(), Some(&11));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_set_up_anew_is_told_of_every_vm() {
    let talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.pass(1).await;
    talk.plane.forgets_everything();
    talk.pass(40).await;
    assert_eq!(talk.plane.events(), ["anna running"]);
    drop(talk.letters());
    talk.pass(300).await;
    assert!(!talk.letters().contains(['r', 'e']));
}

#[tokio::test(start_paused = true)]
async fn large_backlogs_go_in_batches_of_256() {
    let talk = Talk::new().await;
    talk.plane.conducts(Conduct::Away(Duration::ZERO));
    for _ in 0..120 {
        talk.rig.vm("anna").await.unwrap();
        talk.rig.delete.run(&by_name("anna"), &samples::origin("r")).await.unwrap();
    }
    drop(talk.letters());
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(62).await;
    let sizes: Vec<usize> = talk
        .plane
        .take_calls()
        .into_iter()
        .filter_map(|call| match call {
            Call::Report(_, numbers) => Some(numbers.len()),
            Call::Register(..) | Call::Heartbeat(..) => None,
        })
        .collect();
    assert_eq!(sizes, [256, 256, 88]);
    assert_eq!(talk.plane.events().last().map(String::as_str), Some("anna deleted"));
}
