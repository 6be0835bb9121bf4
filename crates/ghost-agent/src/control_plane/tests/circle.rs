//! The whole task: from the key to the events.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{CreateVm, Limits, Link, Node, NodeQuery, Registry};
use ghost_core::domain::ApiReach;
use ghost_core::testing::{MemoryQueue, World, samples};
use ghost_host::SystemClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::authority::{AGENT, files_in, source};
use super::server::Fake;
use crate::config::{Agent, ApiKey};
use crate::control_plane::{ControlPlaneTask, Needs};
use crate::grpc::About;

#[tokio::test]
async fn a_new_host_enrols_registers_lives_reports_and_says_farewell() {
    let (fake, folder) = (Fake::new().await, tempfile::tempdir().unwrap());
    let (world, registry, node) =
        (World::new(), Arc::new(Registry::default()), Arc::new(Node::default()));
    node.refresh(&world.ports()).await.unwrap();
    let files = files_in(folder.path());
    let agent = Agent {
        name: "attic".to_owned(),
        api_url: Some(fake.url()),
        heartbeat_interval: Duration::from_secs(30),
        version: (),
        state_dir: folder.path().to_owned(),
        shutdown_timeout: Duration::from_secs(1),
        advertise_addr: None,
    };
    let about = About {
        agent_id: AGENT,
        name: "attic".to_owned(),
        acceleration: "tcg",
        boot: Uuid::from_u128(1),
    };
    let task = ControlPlaneTask::new(Needs {
        agent: &agent,
        api_key: ApiKey::read(&fake.authority.key()).unwrap(),
        credentials: source(&files),
        files,
        address: watch::channel(Some("100.64.0.7:9090".to_owned())).1,
        cached: watch::channel(Vec::new()).1,
        vpn: None,
        reach: ApiReach::VpnOnly,
        about: &about,
        catalog: Arc::new(samples::catalog()),
        node: Arc::new(NodeQuery::new(node, registry.clone(), Limits::default())),
        registry: registry.clone(),
        queue: Arc::new(MemoryQueue::default()),
        clock: Arc::new(SystemClock::new()),
        meter: world.meter.clone(),
    })
    .unwrap()
    .unwrap();
    let (mut state, closing, tasks) = (task.state(), CancellationToken::new(), TaskTracker::new());
    let running = tasks.spawn(task.run(closing.clone()));
    state.wait_for(|state| matches!(state.link, Link::Registered { .. })).await.unwrap();
    let create = CreateVm::new(world.ports(), registry, Limits::default());
    create.run(samples::spec("anna"), &samples::origin("r")).await.unwrap();
    let told = |what: &str| fake.seen.lock().unwrap().events.iter().any(|e| e.status == what);
    let heard = state.borrow().last_heard;
    // The server wants a heartbeat a second.
    state.wait_for(|state| state.last_heard > heard).await.unwrap();
    closing.cancel();
    running.await.unwrap();
    assert!(told("creating") && told("running"));
    let seen = fake.seen.lock().unwrap();
    assert_eq!((seen.enrolled, seen.registered.len()), (1, 1));
    assert_eq!(seen.registered[0].capacity.unwrap().cpu.unwrap().total, 64.0);
    let last = seen.heartbeats.last().unwrap();
    assert_eq!(
        (last.status, last.vms, last.instance.clone()),
        (3, 1, seen.registered[0].instance.clone())
    );
}
