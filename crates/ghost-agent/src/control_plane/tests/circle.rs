//! The whole task: from the key to the events.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghost_core::application::{CreateVm, Limits, Link, Node, NodeQuery, Registry};
use ghost_core::domain::ApiReach;
use ghost_core::testing::{MemoryQueue, World, samples};
use ghost_host::SystemClock;
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Code;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::fmt::MakeWriter;
use uuid::Uuid;

use super::authority::{AGENT, files_in, source};
use super::server::{Conduct, Fake};
use crate::config::{Agent, ApiKey};
use crate::control_plane::{ControlPlaneTask, Needs};
use crate::grpc::About;

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    /// The first line with these words.
    fn with(&self, words: &str) -> Value {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let line = text.lines().find(|line| line.contains(words));
        serde_json::from_str(line.unwrap_or_else(|| panic!("no {words} in {text}"))).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

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
    let log = Lines::default();
    let lines = tracing_subscriber::fmt().json().with_writer(log.clone()).finish();
    let running = tasks.spawn(task.run(closing.clone()).with_subscriber(lines));
    state.wait_for(|state| matches!(state.link, Link::Registered { .. })).await.unwrap();
    let create = CreateVm::new(world.ports(), registry, Limits::default());
    create.run(samples::spec("anna"), &samples::origin("r")).await.unwrap();
    let told = |what: &str| fake.seen.lock().unwrap().events.iter().any(|e| e.status == what);
    let heard = state.borrow().last_heard;
    // The server wants a heartbeat a second.
    state.wait_for(|state| state.last_heard > heard).await.unwrap();
    fake.conducts(Conduct::Says(Code::Unavailable, "OF_LATER"));
    state.wait_for(|state| matches!(state.link, Link::Away(_))).await.unwrap();
    fake.conducts(Conduct::Well);
    state.wait_for(|state| matches!(state.link, Link::Registered { .. })).await.unwrap();
    closing.cancel();
    running.await.unwrap();
    assert!(told("creating") && told("running"));
    let seen = fake.seen.lock().unwrap();
    for (rpc, words) in [
        ("Enroll", "enrolled"),
        ("Register", "registered with the control plane"),
        ("Heartbeat", "heartbeat: the control plane is away"),
    ] {
        let line = log.with(words);
        assert_eq!(line["span"]["rpc"], rpc, "{line}");
        let id = line["span"]["request_id"].as_str().unwrap();
        assert!(seen.ids.iter().any(|(one, _)| one == id), "{line}");
    }
    assert_eq!(seen.enrolled, 1);
    assert_eq!(seen.registered[0].capacity.unwrap().cpu.unwrap().total, 64.0);
    let last = seen.heartbeats.last().unwrap();
    assert_eq!(
        (last.status, last.vms, last.instance.clone()),
        (3, 1, seen.registered[0].instance.clone())
    );
}
