//! Calls, and every way in which they can fail.

use std::time::Duration;

use ghost_core::domain::control::{
    AgentStatus, ControlError, HeartbeatReport, Profile, Refusal, Registration, ToldStatus,
    VmEvent, VmState,
};
use ghost_core::domain::{ApiReach, Arch, Origin, TraceParent};
use ghost_core::ports::ControlPlane as _;
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tonic::Code;
use uuid::Uuid;

use super::authority::{Authority, NOW, PAST, source, source_in_the_past};
use super::server::{Conduct, Fake};
use crate::control_plane::client::GrpcControlPlane;
use crate::control_plane::target::Target;

const TRANSIENT: Refusal = Refusal::Transient { retry_after: None };

/// An agent with a certificate of that control plane.
fn agent(fake: &Fake) -> (GrpcControlPlane, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let files = fake.authority.equips(folder.path(), NOW);
    (GrpcControlPlane::new(fake.target(), source(&files)), folder)
}

fn registration() -> Registration {
    let profile = Profile {
        name: "attic".to_owned(),
        version: "1.0".to_owned(),
        address: Some("100.64.0.7:9090".to_owned()),
        architecture: Arch::HOST,
        acceleration: "kvm",
        templates: vec!["debian-12".parse().unwrap()],
        templates_cached: vec![],
        boot: Uuid::from_u128(3),
        totals: None,
    };
    Registration { instance: Uuid::from_u128(2), profile, resources: None }
}

fn heartbeat() -> HeartbeatReport {
    HeartbeatReport {
        instance: Uuid::from_u128(2),
        sent_at: Timestamp::from_second(5).unwrap(),
        resources: None,
        vms_running: 1,
        vms: 2,
        version: "1.0".to_owned(),
        status: AgentStatus::Degraded(vec!["libvirt is away".to_owned()]),
        boot: Uuid::from_u128(3),
    }
}

async fn refusal(plane: &GrpcControlPlane) -> ControlError {
    let error = plane.register(&registration()).await.unwrap_err();
    assert!(!error.cause.contains('\n') && error.cause.len() < 700, "{error}");
    error
}

#[tokio::test]
async fn it_registers_lives_and_reports_with_its_certificate() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    let registered = plane.register(&registration()).await.unwrap();
    assert_eq!(registered.beat.interval, Some(Duration::from_secs(1)));
    assert_eq!((registered.beat.last_event, registered.superseded), (0, None));
    plane.heartbeat(&heartbeat()).await.unwrap();
    let state = VmState {
        name: "anna".parse().unwrap(),
        status: ToldStatus::Deleted,
        reason: Some("why".to_owned()),
        address: Some([10, 0, 0, 2].into()),
    };
    let at = Timestamp::from_second(9).unwrap();
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().ok();
    let origin = Origin { request_id: "r-1".parse().unwrap(), traceparent };
    let event =
        VmEvent { sequence: 41, at, vm: Uuid::from_u128(5).into(), state, origin: Some(origin) };
    assert_eq!(plane.report(Uuid::from_u128(2), &[event]).await, Ok(41));
    let seen = fake.seen.lock().unwrap();
    assert_eq!(
        (seen.registered[0].name.as_str(), seen.registered[0].templates.len()),
        ("attic", 1)
    );
    assert_eq!(seen.registered[0].address, "100.64.0.7:9090");
    assert_eq!((seen.heartbeats[0].status, seen.heartbeats[0].vms), (2, 2));
    assert_eq!(seen.heartbeats[0].reasons, ["libvirt is away"]);
    let told = &seen.events[0];
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("deleted", "why"));
    assert_eq!((told.ip_address.as_str(), told.at.unwrap().seconds), ("10.0.0.2", 9));
    assert_eq!(told.request_id, "r-1");
    assert_eq!(told.traceparent, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    assert!(seen.certificates.iter().all(Option::is_some));
    // Each call has an id of its own, and no trace while nothing is traced.
    let ids: std::collections::BTreeSet<_> = seen.ids.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!((ids.len(), seen.ids.len()), (3, 3), "{:?}", seen.ids);
    assert!(seen.ids.iter().all(|(id, trace)| id.len() == 36 && trace.is_empty()));
}

#[cfg(feature = "otlp")]
#[tokio::test]
async fn a_traced_call_takes_its_trace_along_and_each_is_a_trace_of_its_own() {
    use ghost_core::ports::call_span;
    use tracing::Instrument as _;
    use tracing_subscriber::layer::SubscriberExt as _;
    let tracing = crate::config::Tracing {
        otlp_endpoint: "http://127.0.0.1:9".parse().ok(),
        sample_ratio: 1.0,
    };
    let (layer, _exporting) = crate::observability::tracing::layer(&tracing).unwrap();
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    plane.register(&registration()).instrument(call_span("Register")).await.unwrap();
    plane.heartbeat(&heartbeat()).instrument(call_span("Heartbeat")).await.unwrap();
    let seen = fake.seen.lock().unwrap();
    let traces: Vec<TraceParent> =
        seen.ids.iter().map(|(_, traceparent)| traceparent.parse().unwrap()).collect();
    assert_ne!(traces[0].trace_id(), traces[1].trace_id());
    assert!(traces.iter().all(|one| one.as_str().ends_with("-01")), "{traces:?}");
}

#[tokio::test]
async fn one_that_never_answers_is_given_up_and_one_that_is_slow_is_not() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    let plane = plane.within(Duration::from_millis(300));
    fake.conducts(Conduct::Never);
    let error = refusal(&plane).await;
    assert_eq!(error.refusal, TRANSIENT);
    fake.conducts(Conduct::Slow(Duration::from_millis(50)));
    plane.register(&registration()).await.unwrap();
}

#[tokio::test]
async fn an_answer_of_ten_megabytes_is_not_read() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    fake.conducts(Conduct::Huge);
    let error = refusal(&plane).await;
    assert_eq!(error.refusal, Refusal::Refused, "{error}");
    fake.conducts(Conduct::Well);
    plane.register(&registration()).await.unwrap();
}

#[tokio::test]
async fn garbage_and_hanging_up_are_taken_to_pass() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    for conduct in [Conduct::Garbage, Conduct::HangsUp] {
        fake.conducts(conduct.clone());
        let error = refusal(&plane).await;
        assert_eq!(error.refusal, TRANSIENT, "{conduct:?}: {error}");
    }
    fake.conducts(Conduct::Well);
    plane.register(&registration()).await.unwrap();
}

#[tokio::test]
async fn nobody_and_one_who_does_not_speak_tls_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let files = Authority::new().equips(folder.path(), NOW);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap()).parse().unwrap();
    let plane = GrpcControlPlane::new(Target::of(&url, ApiReach::VpnOnly).unwrap(), source(&files));
    let answer = async {
        use tokio::io::AsyncWriteExt as _;
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await.unwrap();
    };
    let (error, ()) = tokio::join!(refusal(&plane), answer);
    assert_eq!(error.refusal, TRANSIENT);
    assert!(error.cause.contains("is agent.api_url that of a Ghost API?"), "{error}");
    drop(listener);
    let error = refusal(&plane).await;
    assert_eq!(error.refusal, TRANSIENT);
    assert!(error.cause.starts_with("cannot reach the control plane at 127.0.0.1:"), "{error}");
    assert!(error.cause.contains("connection refused"), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_proven_is_refused_for_its_reason() {
    let other = Authority::new();
    for (name, years, word) in [
        ("127.0.0.1", NOW, "not signed by this agent's authority"),
        ("127.0.0.1", PAST, "has expired"),
        ("elsewhere.example", NOW, "is for another host"),
    ] {
        let fake = Fake::with(Authority::new(), name, years).await;
        let folder = tempfile::tempdir().unwrap();
        let foreign = word.contains("authority");
        let files = if foreign { &other } else { &fake.authority }.equips(folder.path(), NOW);
        let plane = GrpcControlPlane::new(fake.target(), source(&files));
        let error = refusal(&plane).await;
        assert_eq!(error.refusal, Refusal::Refused, "{error}");
        assert!(error.cause.contains(word), "{error}");
        assert!(fake.seen.lock().unwrap().registered.is_empty());
    }
}

#[tokio::test]
async fn a_server_that_refuses_our_certificate_is_believed() {
    let fake = Fake::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = fake.authority.equips(folder.path(), PAST);
    let plane = GrpcControlPlane::new(fake.target(), source_in_the_past(&files));
    let error = refusal(&plane).await;
    assert_eq!(error.refusal, Refusal::Refused);
    assert!(error.cause.contains("says that the agent's certificate has expired"), "{error}");
}

#[tokio::test]
async fn without_a_certificate_nothing_is_tried() {
    let fake = Fake::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = super::authority::files_in(folder.path());
    let error = refusal(&GrpcControlPlane::new(fake.target(), source(&files))).await;
    assert_eq!(error.refusal, Refusal::Refused);
    assert!(error.cause.contains("GHOST_API_KEY"), "{error}");
}

#[tokio::test]
async fn each_reason_of_the_contract_has_its_meaning() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    for (code, reason, refusal_expected) in [
        (Code::FailedPrecondition, "NOT_REGISTERED", Refusal::NotRegistered),
        (Code::FailedPrecondition, "SUPERSEDED", Refusal::Superseded),
        (Code::PermissionDenied, "AGENT_UNKNOWN", Refusal::Refused),
        (Code::PermissionDenied, "AGENT_REVOKED", Refusal::Refused),
        (Code::InvalidArgument, "BAD_REGISTRATION", Refusal::Refused),
        (Code::Unavailable, "OF_LATER", TRANSIENT),
        (Code::ResourceExhausted, "OF_LATER", TRANSIENT),
        (Code::Aborted, "OF_LATER", TRANSIENT),
        (Code::Unimplemented, "OF_LATER", Refusal::Refused),
        (Code::FailedPrecondition, "OF_LATER", Refusal::Refused),
    ] {
        fake.conducts(Conduct::Says(code, reason));
        let error = refusal(&plane).await;
        assert_eq!(error.refusal, refusal_expected, "{reason}: {error}");
        assert!(error.cause.contains("a reason"), "{error}");
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_from_the_next_call_on_and_no_call_is_dropped() {
    let fake = Fake::new().await;
    let folder = tempfile::tempdir().unwrap();
    let files = fake.authority.equips(folder.path(), NOW);
    let credentials = source(&files);
    let plane = GrpcControlPlane::new(fake.target(), credentials.clone());
    fake.conducts(Conduct::Slow(Duration::from_millis(200)));
    let report = heartbeat();
    let swap = async {
        while fake.seen.lock().unwrap().certificates.is_empty() {
            tokio::task::yield_now().await;
        }
        fake.authority.equips(folder.path(), NOW);
        (credentials.reload)();
        fake.conducts(Conduct::Well);
        plane.register(&registration()).await
    };
    let (under_way, next) = tokio::join!(plane.heartbeat(&report), swap);
    assert!(under_way.is_ok() && next.is_ok(), "{under_way:?} {next:?}");
    let seen = fake.seen.lock().unwrap();
    assert_eq!(seen.certificates.len(), 2);
    assert_ne!(seen.certificates[0], seen.certificates[1]);
}

#[tokio::test]
async fn a_heartbeats_round_trip_is_within_the_requirement() {
    let fake = Fake::new().await;
    let (plane, _folder) = agent(&fake);
    let (report, mut took) = (heartbeat(), Vec::new());
    plane.heartbeat(&report).await.unwrap();
    for _ in 0..200 {
        let before = std::time::Instant::now();
        plane.heartbeat(&report).await.unwrap();
        took.push(before.elapsed());
    }
    took.sort_unstable();
    println!("heartbeat on loopback: p50 {:?}, p99 {:?}", took[100], took[198]);
    assert!(took[198] < Duration::from_millis(500), "{:?}", took[198]);
}
