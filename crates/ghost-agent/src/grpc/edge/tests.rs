//! The whole server over real sockets on loopback: each call has one line, one count and its id, whatever becomes of it.

use std::time::Duration;

use futures_util::StreamExt as _;
use ghost_core::testing::{FakeClock, World};
use ghost_proto::agentpb::WatchVMsRequest;
use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

use super::*;
use crate::config::ClientName;
use crate::debug::Collector;
use crate::grpc::access::Access;
use crate::grpc::listen::Connection;
use crate::grpc::operations::OperationsApi;
use crate::grpc::server;
use crate::grpc::service::tests::{Lines, PARENT, api};
use crate::health::Beginning;
use crate::observability::logging::LogHandle;
use crate::observability::metrics::Format;

const OPERATOR: &str = "spiffe://ghost/operator";
const STATUS: &str = "/agentpb.AgentService/GetVMStatus";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
/// A varint without an end, where a field should begin.
const MALFORMED: &[u8] = b"\0\0\0\0\x03\xff\xff\xff";
const EMPTY: &[u8] = b"\0\0\0\0\0";

/// A server, and one client of it.
struct Rig {
    channel: Channel,
    metrics: Arc<Metrics>,
    lines: Lines,
    closing: CancellationToken,
}

impl Rig {
    async fn new(caller: Caller) -> Self {
        let (world, closing, lines) = (World::new(), CancellationToken::new(), Lines::default());
        let mut api = api(&world).await;
        api.closing = closing.clone();
        let (metrics, quotas) = (Arc::clone(&api.metrics), Arc::clone(&api.quotas));
        let (_, health) = Beginning::new(&*world.clock);
        let log = LogHandle::detached(Arc::new(FakeClock::default()));
        let debug = Arc::new(Collector::new(vec![], Arc::new(Vec::new), closing.clone()));
        let operations = OperationsApi { quotas, health: health.clone(), debug, log };
        let access = Access::new([ClientName::Uri(OPERATOR.to_owned())]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (connections, stream) = mpsc::channel(1);
        let until = closing.clone();
        let serving = async move {
            let stream = ReceiverStream::new(stream);
            server::serve(api, operations, access, stream, health, until).await.unwrap();
        };
        let accepting = async move {
            let (stream, _) = listener.accept().await.unwrap();
            let place = Arc::new(Semaphore::new(1)).acquire_owned().await.unwrap();
            let connection = Connection::new(Box::new(stream), caller, place, None);
            connections.send(Ok(connection)).await.unwrap();
            std::future::pending::<()>().await;
        };
        tokio_util::task::TaskTracker::new().spawn(async move { tokio::join!(serving, accepting) });
        let connect = tower::service_fn(move |_| async move {
            Ok::<_, std::io::Error>(TokioIo::new(TcpStream::connect(at).await?))
        });
        let endpoint = Endpoint::from_static("http://agent");
        let channel = endpoint.connect_with_connector(connect).await.unwrap();
        Self { channel, metrics, lines, closing }
    }

    /// What is answered, in the headers.
    async fn call(&self, path: &str, body: &'static [u8]) -> (Status, HeaderMap) {
        let request = Request::post(format!("http://agent{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("x-request-id", "r-1")
            .header("traceparent", PARENT)
            .body(Body::new(Full::new(Bytes::from_static(body))))
            .unwrap();
        let response = tower::ServiceExt::oneshot(self.channel.clone(), request).await.unwrap();
        let headers = response.headers().clone();
        let status = Status::from_header_map(&headers).unwrap_or_else(|| Status::ok(""));
        (status, headers)
    }

    fn counted(&self, series: &str) -> Option<f64> {
        let text = self.metrics.render(Format::Classic);
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    fn ended(&self, rpc: &str, code: &str) -> Option<f64> {
        self.counted(&format!("ghost_grpc_requests_total{{rpc=\"{rpc}\",code=\"{code}\"}}"))
    }
}

fn certificate(name: &str, until: Timestamp) -> Caller {
    let names = [ClientName::Uri(name.to_owned())].into();
    Caller::Certificate { peer: ([100, 64, 0, 1], 4000).into(), names, until }
}

fn local() -> Caller {
    Caller::Local { uid: 1000, pid: None }
}

/// The lines of that level.
fn of<'a>(lines: &'a [String], level: &str) -> Vec<&'a String> {
    lines.iter().filter(|line| line.contains(&format!("\"level\":\"{level}\""))).collect()
}

#[tokio::test]
async fn a_refused_call_is_answered_logged_and_counted_once_with_its_id() {
    let stranger = certificate("spiffe://ghost/stranger", Timestamp::MAX);
    let expired = certificate(OPERATOR, Timestamp::UNIX_EPOCH);
    for (caller, path, body, code, reason, rpc, level) in [
        (
            stranger,
            STATUS,
            EMPTY,
            Code::PermissionDenied,
            "PERMISSION_DENIED",
            "GetVMStatus",
            "WARN",
        ),
        (expired, STATUS, EMPTY, Code::Unauthenticated, "UNAUTHENTICATED", "GetVMStatus", "WARN"),
        (
            local(),
            STATUS,
            MALFORMED,
            Code::InvalidArgument,
            "VALIDATION_ERROR",
            "GetVMStatus",
            "INFO",
        ),
        (
            local(),
            STATUS,
            b"\0\0\0",
            Code::InvalidArgument,
            "VALIDATION_ERROR",
            "GetVMStatus",
            "INFO",
        ),
        (
            local(),
            STATUS,
            b"\0\x7f\0\0\0",
            Code::OutOfRange,
            "VALIDATION_ERROR",
            "GetVMStatus",
            "INFO",
        ),
        (
            local(),
            "/agentpb.AgentService/X",
            EMPTY,
            Code::Unimplemented,
            "UNIMPLEMENTED",
            "unknown",
            "INFO",
        ),
        (
            local(),
            "/no.Such/CreateVM",
            EMPTY,
            Code::Unimplemented,
            "UNIMPLEMENTED",
            "unknown",
            "INFO",
        ),
    ] {
        let rig = Rig::new(caller).await;
        let following = rig.lines.follow();
        let (status, headers) = rig.call(path, body).await;
        drop(following);
        assert_eq!(status.code(), code, "{path} {body:?}: {status}");
        assert_eq!(headers["x-request-id"], "r-1");
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "agent.ghost"));
        assert_eq!((&*info.metadata["request_id"], &*info.metadata["trace_id"]), ("r-1", TRACE));
        assert!(status.message().contains("; "), "no remedy: {}", status.message());
        let lines = rig.lines.taken();
        let lines: Vec<_> = lines.iter().filter(|line| line.contains("ghost_agent")).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        for words in ["r-1", TRACE, code_name(code), reason, rpc, level, "caller"] {
            assert!(lines[0].contains(words), "{words} is not in {}", lines[0]);
        }
        assert_eq!(rig.ended(rpc, code_name(code)), Some(1.0));
    }
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_told_in_a_line() {
    let rig = Rig::new(certificate("spiffe://ghost/stranger", Timestamp::MAX)).await;
    let (following, began) = (rig.lines.follow(), std::time::Instant::now());
    for _ in 0..20 {
        rig.call(STATUS, EMPTY).await;
    }
    drop(following);
    let lines = rig.lines.taken();
    // One at once, and one for each second that it took.
    let most = 1 + usize::try_from(began.elapsed().as_secs()).unwrap();
    assert!(of(&lines, "WARN").len() <= most, "{lines:?}");
    let told = lines.iter().filter(|line| line.contains("r-1")).count();
    assert_eq!(told, 20, "the others at DEBUG: {lines:?}");
    assert_eq!(rig.ended("GetVMStatus", "PERMISSION_DENIED"), Some(20.0));
}

#[tokio::test]
async fn what_a_handler_answers_is_told_and_counted_by_it_alone() {
    let rig = Rig::new(local()).await;
    let following = rig.lines.follow();
    let (status, headers) = rig.call(STATUS, b"\0\0\0\0\x08\x0a\x06nobody").await;
    drop(following);
    assert_eq!(
        (status.code(), &headers["x-request-id"]),
        (Code::NotFound, &"r-1".parse().unwrap())
    );
    let lines = rig.lines.taken();
    let told: Vec<_> = lines.iter().filter(|line| line.contains("r-1")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(rig.ended("GetVMStatus", "NOT_FOUND"), Some(1.0));
}

#[tokio::test]
async fn a_probe_of_health_has_its_id_is_told_at_debug_and_not_counted() {
    let rig = Rig::new(local()).await;
    let following = rig.lines.follow();
    let (status, headers) = rig.call("/grpc.health.v1.Health/Check", EMPTY).await;
    drop(following);
    assert_eq!((status.code(), &headers["x-request-id"]), (Code::Ok, &"r-1".parse().unwrap()));
    let lines = rig.lines.taken();
    assert_eq!(of(&lines, "INFO").len(), 0, "{lines:?}");
    assert_eq!(of(&lines, "DEBUG").iter().filter(|line| line.contains("r-1")).count(), 1);
    assert_eq!(rig.ended("Check", "OK"), None);
}

/// A watch that has told its first event, and the rig.
async fn watched(rig: &Rig) -> tonic::Streaming<ghost_proto::agentpb::VmEvent> {
    let mut client = AgentServiceClient::new(rig.channel.clone());
    let mut events = client.watch_v_ms(WatchVMsRequest::default()).await.unwrap().into_inner();
    assert_eq!(events.next().await.unwrap().unwrap().kind, "synced");
    events
}

/// Until the watch is counted under that code.
async fn until_ended(rig: &Rig, code: &str) {
    let ended = async {
        while rig.ended("WatchVMs", code).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap();
}

#[tokio::test]
async fn a_watch_ends_when_its_client_leaves_or_the_agent_does() {
    for (code, words) in [("CANCELLED", "cut off"), ("OK", "done")] {
        let rig = Rig::new(local()).await;
        let _following = rig.lines.follow();
        let events = watched(&rig).await;
        let early = rig.lines.taken();
        assert!(!early.iter().any(|line| line.contains("WatchVMs")), "{early:?}");
        assert_eq!((rig.ended("WatchVMs", "OK"), rig.ended("WatchVMs", "CANCELLED")), (None, None));
        let kept = match code {
            "OK" => Some(events),
            _ => {
                drop(events);
                None
            }
        };
        if kept.is_some() {
            rig.closing.cancel();
        }
        until_ended(&rig, code).await;
        let lines = rig.lines.taken();
        let told: Vec<_> = lines.iter().filter(|line| line.contains("WatchVMs")).collect();
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].contains(words) && told[0].contains("took"), "{}", told[0]);
        assert_eq!(rig.ended("WatchVMs", code), Some(1.0));
        assert!(
            !rig.metrics
                .render(Format::Classic)
                .contains("duration_seconds_count{rpc=\"WatchVMs\"")
        );
    }
}
