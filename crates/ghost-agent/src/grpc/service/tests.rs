//! The API on a host in memory, without a transport.

use std::io::Write;
use std::sync::{Arc, Mutex};

use ghost_core::application::{Limits, Node, NodeQuery, Retention};
use ghost_core::testing::{World, samples};
use tonic::Code;
use tonic_types::StatusExt as _;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::config::Rates;

pub(crate) const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The API over that host.
pub(crate) async fn api(world: &Arc<World>) -> AgentApi {
    let (ports, registry, limits) = (world.ports(), Arc::<Registry>::default(), Limits::default());
    let node = Arc::new(Node::default());
    node.refresh(&ports).await.unwrap();
    let catalog = Arc::new(samples::catalog());
    let (p, r) = (|| ports.clone(), || Arc::clone(&registry));
    let rates = Rates {
        client_reads_per_s: 100_000,
        all_reads_per_s: 100_000,
        client_changes_per_s: 100,
        all_changes_per_s: 100,
        changes_at_once: 8,
    };
    AgentApi {
        create: Arc::new(CreateVm::new(p(), r(), limits)),
        delete: Arc::new(DeleteVm::new(p(), r())),
        start: Arc::new(StartVm::new(p(), r(), limits)),
        stop: Arc::new(StopVm::new(p(), r(), limits)),
        status: Arc::new(VmStatusQuery::new(r())),
        list: Arc::new(ListVms::new(r())),
        images: Arc::new(ImageLibrary::new(p(), r(), Arc::clone(&catalog), Retention::default())),
        catalog,
        node: Arc::new(NodeQuery::new(node, r(), limits)),
        watch: Arc::new(WatchVms::new(r(), Uuid::from_u128(7))),
        cache: r(),
        clock: Arc::clone(&ports.clock),
        about: Arc::new(About {
            agent_id: Uuid::from_u128(7),
            name: "attic".to_owned(),
            acceleration: "kvm",
            boot: Uuid::from_u128(1),
        }),
        closing: CancellationToken::new(),
        tasks: TaskTracker::new(),
        quotas: Arc::new(Quotas::new(&rates)),
        metrics: Arc::default(),
    }
}

/// The smallest create of that name, as a call with these headers.
pub(crate) fn create(name: &str, headers: &[(&'static str, &str)]) -> Request<CreateVmRequest> {
    let message = CreateVmRequest {
        name: name.to_owned(),
        vcpu: 1,
        ram_gb: 1,
        disk_gb: 10,
        template: "debian-12".to_owned(),
        ..Default::default()
    };
    with(message, headers)
}

pub(crate) fn with<M>(message: M, headers: &[(&'static str, &str)]) -> Request<M> {
    let mut request = Request::new(message);
    for (key, value) in headers {
        request.metadata_mut().insert(*key, value.parse().unwrap());
    }
    request
}

/// What was logged, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn taken(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn follow(&self) -> DefaultGuard {
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(self.clone());
        tracing::subscriber::set_default(subscriber.finish())
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn every_line_of_a_create_names_the_call_and_from_admission_on_the_vm() {
    let (world, lines) = (World::new(), Lines::default());
    let api = api(&world).await;
    let following = lines.follow();
    let headers = [("x-request-id", "r-77"), ("traceparent", PARENT)];
    let answer = api.create_vm(create("web", &headers)).await.unwrap();
    drop(following);
    assert_eq!(answer.metadata().get("x-request-id").unwrap(), "r-77");
    let (vm_id, lines) = (answer.into_inner().vm_id, lines.taken());
    assert!(lines.len() >= 3, "{lines:?}");
    for line in &lines {
        for id in ["r-77", "4bf92f3577b34da6a3ce929d0e0e4736", vm_id.as_str(), "\"web\""] {
            assert!(line.contains(id), "{id} is not in {line}");
        }
    }
    assert!(lines.iter().any(|line| line.contains("\"step\":\"lease\"")), "{lines:?}");
}

#[tokio::test(start_paused = true)]
async fn a_failure_names_the_call_and_its_trace_where_the_caller_and_a_library_look() {
    let world = World::new();
    let api = api(&world).await;
    let ask = GetVmStatusRequest { vm_id: "nobody".to_owned() };
    let headers = [("x-request-id", "r-78"), ("traceparent", PARENT)];
    let status = api.get_vm_status(with(ask.clone(), &headers)).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.metadata().get("x-request-id").unwrap(), "r-78");
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["request_id"], "r-78");
    assert_eq!(info.metadata["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let status = api.get_vm_status(with(ask, &[])).await.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["request_id"].len(), 36);
    assert!(!info.metadata.contains_key("trace_id"));
}

#[tokio::test(start_paused = true)]
async fn a_watcher_and_the_ledger_learn_the_command_with_its_trace() {
    let world = World::new();
    let api = api(&world).await;
    let watch = api.watch_v_ms(Request::new(WatchVMsRequest::default())).await.unwrap();
    assert!(watch.metadata().contains_key("x-request-id"));
    let mut events = watch.into_inner();
    assert_eq!(events.next().await.unwrap().unwrap().request_id, "");
    let headers = [("x-request-id", "r-79"), ("traceparent", PARENT)];
    let made = api.create_vm(create("web", &headers)).await.unwrap().into_inner();
    let event = events.next().await.unwrap().unwrap();
    assert_eq!((event.request_id.as_str(), event.traceparent.as_str()), ("r-79", PARENT));
    let record = world.record(made.vm_id.parse::<Uuid>().unwrap().into()).unwrap();
    assert_eq!(record.origin.unwrap().request_id.as_str(), "r-79");
}

#[tokio::test(start_paused = true)]
async fn that_libvirt_is_away_is_no_error_of_each_call() {
    let (world, lines) = (World::new(), Lines::default());
    let mut api = api(&world).await;
    // It was never looked at.
    let registry = Arc::<Registry>::default();
    api.node = Arc::new(NodeQuery::new(Arc::default(), registry, Limits::default()));
    let following = lines.follow();
    let status = api.get_node_info(with(GetNodeInfoRequest {}, &[])).await.unwrap_err();
    drop(following);
    assert_eq!(status.code(), Code::Unavailable);
    let lines = lines.taken();
    assert!(lines.iter().all(|line| line.contains("\"level\":\"INFO\"")), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
}
