//! The agent's side of the control plane: who it says it is, and how it is.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghost_core::application::backoff::Dice;
use ghost_core::application::{Control, Facts, Limits, Link, LinkState, NodeQuery, Who};
use ghost_core::domain::TemplateName;
use ghost_core::domain::control::AgentStatus;
use ghost_core::ports::{Clock as _, EventQueue, SelfKnowledge};
use ghost_core::testing::control_plane::Call;
use ghost_core::testing::{Conduct, FakeControlPlane, MemoryQueue, samples};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

use crate::rig::Rig;

/// What an agent says of itself beside VMs and host.
#[derive(Debug, Default)]
pub(crate) struct Self_ {
    pub(crate) cached: Mutex<Vec<TemplateName>>,
    pub(crate) troubles: Mutex<Vec<String>>,
}

impl SelfKnowledge for Self_ {
    fn address(&self) -> Option<String> {
        Some("100.64.0.7:9090".to_owned())
    }

    fn templates_cached(&self) -> Vec<TemplateName> {
        self.cached.lock().unwrap().clone()
    }

    fn troubles(&self) -> Vec<String> {
        self.troubles.lock().unwrap().clone()
    }
}

/// An agent that talks to a control plane.
pub(crate) struct Talk {
    pub(crate) rig: Rig,
    pub(crate) plane: Arc<FakeControlPlane>,
    pub(crate) queue: Arc<MemoryQueue>,
    pub(crate) knowledge: Arc<Self_>,
    pub(crate) state: watch::Receiver<LinkState>,
    pub(crate) close: Option<oneshot::Sender<()>>,
    pub(crate) ended: tokio::task::JoinHandle<()>,
    pub(crate) hurry: ghost_core::application::Hurry,
    _watching: tokio::task::JoinHandle<()>,
}

impl Talk {
    pub(crate) async fn new() -> Self {
        let rig = Rig::new();
        let plane = FakeControlPlane::new(rig.world.clock.clone());
        Self::with(rig, plane, Arc::default()).await
    }

    /// A process on that host, with what an earlier one left.
    pub(crate) async fn with(
        rig: Rig,
        plane: Arc<FakeControlPlane>,
        queue: Arc<MemoryQueue>,
    ) -> Self {
        let watching = rig.watch();
        rig.node.refresh(&rig.world.ports()).await.unwrap();
        let knowledge = Arc::new(Self_::default());
        let node = NodeQuery::new(rig.node.clone(), rig.registry.clone(), Limits::default());
        let facts = Facts {
            who: Who {
                instance: Uuid::new_v4(),
                name: "attic".to_owned(),
                version: "1.0".to_owned(),
                acceleration: "kvm",
                boot: Uuid::from_u128(1),
            },
            catalog: Arc::new(samples::catalog()),
            node: Arc::new(node),
            registry: rig.registry.clone(),
            queue: queue.clone(),
            knowledge: knowledge.clone(),
            clock: rig.world.clock.clone(),
            meter: rig.world.meter.clone(),
        };
        let interval = Duration::from_secs(30);
        let control = Control::new(plane.clone(), facts, interval, Dice::seeded(5));
        let (state, hurry) = (control.state(), control.hurry());
        let (close, closing) = oneshot::channel::<()>();
        #[expect(clippy::disallowed_methods, reason = "a test's task ends with its runtime")]
        let ended = tokio::spawn(control.run(async { drop(closing.await) }));
        let close = Some(close);
        // Until it has looked at the VMs there are.
        rig.world.clock.sleep(Duration::from_micros(1)).await;
        Self { rig, plane, queue, knowledge, state, close, ended, hurry, _watching: watching }
    }

    pub(crate) async fn pass(&self, seconds: u64) {
        self.rig.world.clock.sleep(Duration::from_secs(seconds)).await;
    }

    /// The calls that arrived, told apart by a letter.
    pub(crate) fn letters(&self) -> String {
        let letter = |call: &Call| match call {
            Call::Register(..) => 'r',
            Call::Heartbeat(..) => 'h',
            Call::Report(..) => 'e',
        };
        self.plane.take_calls().iter().map(letter).collect()
    }

    pub(crate) fn link(&self) -> Link {
        self.state.borrow().link.clone()
    }

    fn last_status(&self) -> Option<AgentStatus> {
        self.plane.take_calls().into_iter().rev().find_map(|call| match call {
            Call::Heartbeat(_, report) => Some(report.status),
            Call::Register(..) | Call::Report(..) => None,
        })
    }
}

#[tokio::test(start_paused = true)]
async fn an_agent_says_who_it_is_and_then_that_it_lives() {
    let talk = Talk::new().await;
    talk.pass(95).await;
    let calls = talk.plane.take_calls();
    let Call::Register(at, who) = &calls[0] else { panic!("{calls:?}") };
    assert_eq!(at.as_secs(), 0);
    assert_eq!(who.profile.address.as_deref(), Some("100.64.0.7:9090"));
    assert_eq!(who.profile.templates.len(), 1);
    assert_eq!(who.resources.unwrap().cpu.total, 64.0);
    let beats: Vec<f64> = calls[1..]
        .iter()
        .map(|call| match call {
            Call::Heartbeat(at, report) => {
                assert_eq!((report.status.clone(), report.vms), (AgentStatus::Online, 0));
                at.as_secs_f64()
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!((3..=4).contains(&beats.len()), "{beats:?}");
    assert!(beats.windows(2).all(|two| (27.0..=33.0).contains(&(two[1] - two[0]))), "{beats:?}");
}

#[tokio::test(start_paused = true)]
async fn what_changed_of_the_host_or_the_agent_is_registered_again() {
    let talk = Talk::new().await;
    talk.pass(40).await;
    assert!(talk.letters().starts_with("rh"));
    talk.knowledge.cached.lock().unwrap().push("debian-12".parse().unwrap());
    talk.pass(34).await;
    assert!(talk.letters().contains('r'));
    talk.rig.world.has_cpus(32);
    talk.pass(70).await;
    let told = talk.plane.take_calls().into_iter().rev().find_map(|call| match call {
        Call::Register(_, who) => Some(who),
        Call::Heartbeat(..) | Call::Report(..) => None,
    });
    assert_eq!(told.unwrap().resources.unwrap().cpu.total, 32.0);
    talk.pass(300).await;
    assert!(!talk.letters().contains('r'));
}

#[tokio::test(start_paused = true)]
async fn a_vm_more_is_no_reason_to_register_again() {
    let talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.pass(100).await;
    assert_eq!(talk.letters().matches('r').count(), 1);
}

#[tokio::test(start_paused = true)]
async fn troubles_make_it_degraded_with_their_reasons_and_go() {
    let talk = Talk::new().await;
    talk.pass(1).await;
    talk.rig.registry.lost_contact();
    talk.knowledge.troubles.lock().unwrap().push("the certificate expires soon".to_owned());
    talk.queue.has_trouble(Some("the disk is full"));
    talk.rig.world.faults.dead_from(0);
    talk.pass(70).await;
    let Some(AgentStatus::Degraded(reasons)) = talk.last_status() else { panic!("degraded") };
    assert!(reasons[0].starts_with("libvirt has not answered for "), "{reasons:?}");
    assert_eq!(reasons[1..], ["the disk is full", "the certificate expires soon"]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_a_day_off_is_told() {
    let talk = Talk::new().await;
    talk.plane.clock_ahead(86_400);
    talk.pass(70).await;
    let expected = "the host's clock is 86400 s behind the control plane's; set it (timedatectl)";
    assert_eq!(talk.last_status(), Some(AgentStatus::Degraded(vec![expected.to_owned()])));
    talk.plane.clock_ahead(-59);
    talk.pass(70).await;
    assert_eq!(talk.last_status(), Some(AgentStatus::Online));
}

#[tokio::test(start_paused = true)]
async fn the_last_word_is_draining_after_the_last_events() {
    let mut talk = Talk::new().await;
    talk.rig.vm("anna").await.unwrap();
    talk.pass(1).await;
    drop(talk.letters());
    // A delivery fails, and waits for its next try, while the agent is told to end.
    talk.plane.conducts(Conduct::Away(Duration::ZERO));
    talk.rig.world.crash(talk.rig.registry.views()[0].record.id);
    talk.rig.world.clock.sleep(Duration::from_micros(1)).await;
    assert_eq!(talk.letters(), "e");
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    drop(talk.close.take());
    (&mut talk.ended).await.unwrap();
    assert_eq!(talk.plane.events().last().map(String::as_str), Some("anna error"));
    assert_eq!(talk.last_status(), Some(AgentStatus::Draining));
}

#[tokio::test(start_paused = true)]
async fn an_end_is_not_held_up_by_a_silent_control_plane() {
    for conduct in [Conduct::Silent, Conduct::Away(Duration::from_secs(9))] {
        let mut talk = Talk::new().await;
        talk.pass(1).await;
        talk.plane.conducts(conduct);
        let before = talk.rig.world.clock.monotonic();
        drop(talk.close.take());
        (&mut talk.ended).await.unwrap();
        let took = talk.rig.world.clock.monotonic() - before;
        assert!(took <= Duration::from_millis(2001), "{took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_newest_process_wins_and_the_older_is_silent_until_it_is_gone() {
    let talk = Talk::new().await;
    talk.pass(60).await;
    talk.plane.other_registers();
    talk.pass(60).await;
    drop(talk.letters());
    assert!(matches!(talk.link(), Link::Refused(_)));
    talk.rig.vm("anna").await.unwrap();
    talk.pass(3000).await;
    let letters = talk.letters();
    // A heartbeat every 5 minutes, and never a registration, which would take the id from the other.
    assert!((9..=11).contains(&letters.len()) && !letters.contains('r'), "{letters}");
    talk.plane.forgets_registrations();
    talk.pass(400).await;
    assert_eq!(talk.plane.events().last().map(String::as_str), Some("anna running"));
    assert!(matches!(talk.link(), Link::Registered { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_refused_agent_is_slow_until_its_certificate_changes() {
    let talk = Talk::new().await;
    talk.plane.conducts(Conduct::Refuses);
    talk.pass(3000).await;
    let letters = talk.letters();
    assert!((10..=12).contains(&letters.len()), "{letters}");
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.hurry.now();
    talk.pass(1).await;
    assert!(matches!(talk.link(), Link::Registered { .. }));
}

#[tokio::test(start_paused = true)]
async fn a_control_plane_that_does_not_know_whom_it_registered_makes_nobody_spin() {
    let talk = Talk::new().await;
    talk.plane.conducts(Conduct::Forgetful);
    talk.rig.vm("anna").await.unwrap();
    talk.pass(3600).await;
    let calls = talk.letters().len();
    assert!(calls < 600, "{calls} calls in an hour");
    assert_eq!(talk.queue.last().await, 3);
    talk.plane.conducts(Conduct::Answers(Duration::ZERO));
    talk.pass(120).await;
    assert_eq!(talk.plane.events().last().map(String::as_str), Some("anna running"));
}
