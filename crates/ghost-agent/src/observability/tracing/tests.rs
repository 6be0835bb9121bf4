//! Against a collector that decodes what it is sent.

mod collector;

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghost_core::testing::World;
use ghost_proto::agentpb::agent_service_server::AgentService as _;
use ghost_proto::agentpb::{GetVmStatusRequest, ListVMsRequest};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::layer::SubscriberExt as _;
use uuid::Uuid;

use super::{Exporting, Source, layer};
use crate::config;
use crate::grpc::service::tests::{PARENT, api, create, with};
use collector::Collector;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// A batch is gathered for half a second, and the collector rests for a twentieth.
const BETWEEN_TRIES: Duration = Duration::from_millis(550);
/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(10);

fn source() -> Source {
    Source { agent_id: Uuid::from_u128(7), host: "attic-host".to_owned() }
}

/// Traces this thread, to a collector there.
fn traced(to: SocketAddr, sample_ratio: f64) -> (Exporting, DefaultGuard) {
    traced_and_logged(to, sample_ratio, Lines::default())
}

fn traced_and_logged(to: SocketAddr, ratio: f64, lines: Lines) -> (Exporting, DefaultGuard) {
    let endpoint = format!("http://{to}").parse().ok();
    let tracing = config::Tracing { otlp_endpoint: endpoint, sample_ratio: ratio };
    let (layer, exporting) = layer(&tracing).unwrap();
    let logged = tracing_subscriber::fmt::layer().with_writer(Mutex::new(lines));
    let subscriber = tracing_subscriber::registry().with(layer).with(logged);
    (exporting, tracing::subscriber::set_default(subscriber))
}

#[derive(Debug, Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn count(&self, what: &str) -> usize {
        String::from_utf8_lossy(&self.0.lock().unwrap()).matches(what).count()
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

#[tokio::test]
async fn a_create_is_one_span_in_its_callers_trace_with_each_step_as_a_child() {
    let (collector, world) = (Collector::start().await, World::new());
    let api = api(&world).await;
    let (exporting, _guard) = traced(collector.address, 0.0);
    let running = exporting.start(&source());
    let made = api.create_vm(create("web", &[("traceparent", PARENT)])).await.unwrap();
    running.end().await;
    let spans = collector.spans();
    let call = spans.iter().find(|one| one.name == "agentpb.AgentService/CreateVM").unwrap();
    assert_eq!((call.trace.as_str(), call.parent.as_str()), (TRACE, "00f067aa0ba902b7"));
    assert_eq!((call.kind, call.attribute("rpc.method")), ("server", "CreateVM"));
    assert_eq!(
        (call.attribute("rpc.system"), call.attribute("rpc.grpc.status_code")),
        ("grpc", "0")
    );
    // Its id is the trace's, as it gave none of its own.
    assert_eq!(call.attribute("request_id"), TRACE);
    assert_eq!(call.attribute("vm_id"), made.into_inner().vm_id);
    let mut steps: Vec<&str> = spans
        .iter()
        .filter(|one| one.parent == call.id && one.trace == TRACE)
        .filter_map(|one| one.name.strip_prefix("create "))
        .collect();
    steps.sort_unstable();
    let all = ["address", "admission", "define", "disk", "image", "lease", "seed", "start"];
    assert_eq!(steps, all);
    let resource = collector.resource();
    let of = |key: &str| resource.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str());
    assert_eq!(of("service.name"), Some("ghost-agent"));
    assert_eq!(of("service.version"), Some(crate::VERSION));
    assert_eq!(of("service.instance.id"), Some("00000000-0000-0000-0000-000000000007"));
    assert_eq!(of("host.name"), Some("attic-host"));
}

#[tokio::test]
async fn a_step_that_fails_and_a_call_that_the_agent_failed_are_errors_and_a_callers_mistake_is_none()
 {
    let (collector, world) = (Collector::start().await, World::new());
    let api = api(&world).await;
    let (exporting, _guard) = traced(collector.address, 1.0);
    let running = exporting.start(&source());
    world.faults.fail_always("define");
    api.create_vm(create("web", &[])).await.unwrap_err();
    let nobody = GetVmStatusRequest { vm_id: "nobody".to_owned() };
    api.get_vm_status(with(nobody, &[])).await.unwrap_err();
    running.end().await;
    let spans = collector.spans();
    let span = |name: &str| spans.iter().find(|one| one.name == name).unwrap();
    assert_eq!(span("create define").error.as_deref(), Some("HYPERVISOR_ERROR"));
    assert_eq!(span("create disk").error, None);
    assert!(span("agentpb.AgentService/CreateVM").error.is_some());
    let status = span("agentpb.AgentService/GetVMStatus");
    assert_eq!((status.error.as_deref(), status.attribute("rpc.grpc.status_code")), (None, "5"));
}

#[tokio::test]
async fn whether_a_trace_is_exported_is_its_callers_to_say_and_else_the_ratio() {
    let (collector, world) = (Collector::start().await, World::new());
    let api = api(&world).await;
    let list = |headers: &[(&'static str, &str)]| {
        let (api, request) = (api.clone(), with(ListVMsRequest::default(), headers));
        async move { api.list_v_ms(request).await.unwrap() }
    };
    let unsampled = PARENT.replace(TRACE, &"a".repeat(32)).replace("-01", "-00");
    for ratio in [0.0, 1.0] {
        let (exporting, _guard) = traced(collector.address, ratio);
        let running = exporting.start(&source());
        list(&[("traceparent", &unsampled)]).await;
        list(&[("traceparent", PARENT)]).await;
        list(&[]).await;
        running.end().await;
        let traces: Vec<String> = collector.taken().into_iter().map(|one| one.trace).collect();
        assert!(traces.contains(&TRACE.to_owned()), "{traces:?}");
        assert!(!traces.contains(&"a".repeat(32)), "{traces:?}");
        assert_eq!(traces.len(), if ratio > 0.5 { 2 } else { 1 }, "{traces:?}");
    }
}

#[tokio::test]
async fn a_call_without_a_trace_begins_one_and_its_failure_names_it() {
    let (collector, world) = (Collector::start().await, World::new());
    let api = api(&world).await;
    let (exporting, _guard) = traced(collector.address, 1.0);
    let running = exporting.start(&source());
    let nobody = GetVmStatusRequest { vm_id: "nobody".to_owned() };
    let status = api.get_vm_status(with(nobody, &[])).await.unwrap_err();
    running.end().await;
    let info = tonic_types::StatusExt::get_details_error_info(&status).unwrap();
    assert_eq!(info.metadata["trace_id"], collector.spans()[0].trace);
}

#[tokio::test]
async fn a_collector_that_is_away_is_one_line_until_it_is_back() {
    let world = World::new();
    let api = api(&world).await;
    let call = async || api.list_v_ms(with(ListVMsRequest::default(), &[])).await.unwrap();
    let lines = Lines::default();
    let broken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = broken.local_addr().unwrap();
    let (exporting, _guard) = traced_and_logged(address, 1.0, lines.clone());
    let running = exporting.resting(Duration::from_millis(50)).start(&source());
    // It hangs up on one try after another.
    for _ in 0..4 {
        call().await;
        drop(tokio::time::timeout(PATIENCE, broken.accept()).await.unwrap().unwrap());
    }
    drop(broken);
    let collector = Collector::start_at(address).await;
    let taken = async {
        loop {
            call().await;
            // What was asked for while it was away is lost: then the next one is taken.
            if tokio::time::timeout(BETWEEN_TRIES, collector.takes()).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, taken).await.unwrap();
    running.end().await;
    assert_eq!(lines.count("the collector of traces is away"), 1);
    assert_eq!(lines.count("the collector of traces is back"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_collector_that_never_answers_holds_up_the_end_for_two_seconds_at_most() {
    let world = World::new();
    let api = api(&world).await;
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (exporting, _guard) = traced(silent.local_addr().unwrap(), 1.0);
    let running = exporting.start(&source());
    api.list_v_ms(with(ListVMsRequest::default(), &[])).await.unwrap();
    let began = tokio::time::Instant::now();
    running.end().await;
    let took = began.elapsed();
    assert!((Duration::from_millis(1900)..Duration::from_millis(2100)).contains(&took), "{took:?}");
}

#[tokio::test]
async fn spans_that_nobody_takes_are_dropped_and_counted() {
    let (world, nobody) = (World::new(), "127.0.0.1:9".parse().unwrap());
    let api = api(&world).await;
    let (exporting, _guard) = traced(nobody, 1.0);
    for _ in 0..5000 {
        api.list_v_ms(with(ListVMsRequest::default(), &[])).await.unwrap();
    }
    assert_eq!(exporting.lost(), 5000 - 4096);
}

#[tokio::test]
async fn nothing_is_traced_without_a_collector() {
    let none = config::Tracing { otlp_endpoint: None, sample_ratio: 1.0 };
    assert!(layer::<tracing_subscriber::Registry>(&none).is_none());
}
