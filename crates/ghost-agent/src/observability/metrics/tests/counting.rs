//! What is counted as it happens, and what is looked at.

use ghost_core::domain::control::ControlError;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn counted(what: impl Fn(&Metrics), series: &str) -> Option<f64> {
    let metrics = Metrics::default();
    what(&metrics);
    value(&metrics.render(Format::Classic), series)
}

#[test]
fn creates_are_counted_by_their_end_and_timed() {
    let metrics = Metrics::default();
    let create = |outcome| metrics.note(Measured::Create { took: 20 * MS, outcome });
    create(Ok(()));
    create(Ok(()));
    create(Err(ErrorCode::ResourceLimit));
    let text = metrics.render(Format::Classic);
    let told = |series| value(&text, series).unwrap();
    assert_eq!(told("ghost_vms_created_total"), 2.0);
    assert_eq!(told("ghost_vm_create_failures_total{error_code=\"RESOURCE_LIMIT_EXCEEDED\"}"), 1.0);
    assert_eq!(told("ghost_vm_create_failures_total{error_code=\"INTERNAL_ERROR\"}"), 0.0);
    assert_eq!(told("ghost_vm_create_duration_seconds_count{outcome=\"ok\"}"), 2.0);
    assert_eq!(told("ghost_vm_create_duration_seconds_count{outcome=\"failed\"}"), 1.0);
    assert_eq!(told("ghost_vm_create_duration_seconds_sum{outcome=\"ok\"}"), 0.04);
}

#[test]
fn steps_are_timed_apart() {
    let step = |metrics: &Metrics| {
        let (step, outcome) = (CreateStep::Lease, Err(ErrorCode::Network));
        metrics.note(Measured::Step { step, took: 300 * MS, outcome });
    };
    let bucket = |le| {
        format!(
            "ghost_vm_create_step_duration_seconds_bucket{{le=\"{le}\",step=\"lease\",outcome=\"failed\"}}"
        )
    };
    assert_eq!(counted(step, &bucket("0.25")), Some(0.0));
    assert_eq!(counted(step, &bucket("0.5")), Some(1.0));
    assert_eq!(counted(step, &bucket("+Inf")), Some(1.0));
}

#[test]
fn calls_are_told_by_rpc_and_code_as_grpc_spells_it() {
    let call = |metrics: &Metrics| metrics.call_ended("ListVMs", Code::ResourceExhausted, Some(MS));
    let series =
        "ghost_grpc_request_duration_seconds_count{rpc=\"ListVMs\",code=\"RESOURCE_EXHAUSTED\"}";
    assert_eq!(counted(call, series), Some(1.0));
    let total = "ghost_grpc_requests_total{rpc=\"ListVMs\",code=\"RESOURCE_EXHAUSTED\"}";
    assert_eq!(counted(call, total), Some(1.0));
    let stream = |metrics: &Metrics| metrics.call_ended("ListVMs", Code::ResourceExhausted, None);
    assert_eq!((counted(stream, total), counted(stream, series)), (Some(1.0), None));
    let limited = |metrics: &Metrics| metrics.rate_limited(Limited::Change);
    assert_eq!(counted(limited, "ghost_grpc_rate_limited_total{limit=\"change\"}"), Some(1.0));
    assert_eq!(counted(limited, "ghost_grpc_rate_limited_total{limit=\"read\"}"), Some(0.0));
}

#[test]
fn calls_of_libvirt_that_failed_are_timed_and_counted_and_refused_ones_only_counted() {
    let metrics = Metrics::default();
    let ended = |outcome| CallObserver::call_ended(&metrics, "start_domain", outcome, MS);
    let errors = [
        (CallOutcome::Failed, "failed"),
        (CallOutcome::Unavailable, "unavailable"),
        (CallOutcome::TimedOut, "timeout"),
        (CallOutcome::Refused, "refused"),
        (CallOutcome::Other, "other"),
    ];
    ended(CallOutcome::Done);
    errors.iter().for_each(|(outcome, _)| ended(*outcome));
    let text = metrics.render(Format::Classic);
    for (_, kind) in errors {
        let series =
            format!("ghost_libvirt_call_errors_total{{call=\"start_domain\",kind=\"{kind}\"}}");
        assert_eq!(value(&text, &series), Some(1.0), "{kind}");
    }
    let made = "ghost_libvirt_call_duration_seconds_count{call=\"start_domain\"}";
    assert_eq!(value(&text, made), Some(5.0));
    CallObserver::call_ended(&metrics, "cut_power", CallOutcome::Refused, MS);
    let text = metrics.render(Format::Classic);
    assert_eq!(value(&text, "ghost_libvirt_call_duration_seconds_count{call=\"cut_power\"}"), None);
}

#[test]
fn the_success_rate_is_that_of_the_last_twenty_heartbeats() {
    let metrics = Metrics::default();
    let ratio = || value(&metrics.render(Format::Classic), "ghost_heartbeat_success_ratio");
    let beat = |taken| metrics.note(Measured::Heartbeat { took: MS, taken });
    assert_eq!(ratio(), None);
    beat(false);
    assert_eq!(ratio(), Some(0.0));
    (0..3).for_each(|_| beat(true));
    assert_eq!(ratio(), Some(0.75));
    (0..16).for_each(|_| beat(true));
    assert_eq!(ratio(), Some(0.95));
    beat(true);
    assert_eq!(ratio(), Some(1.0), "the first is forgotten");
    let text = metrics.render(Format::Classic);
    assert_eq!(value(&text, "ghost_heartbeats_total{outcome=\"ok\"}"), Some(20.0));
    assert_eq!(value(&text, "ghost_heartbeats_total{outcome=\"failed\"}"), Some(1.0));
}

#[test]
fn deletions_and_reported_events_are_counted() {
    assert_eq!(counted(|m| m.note(Measured::Deleted), "ghost_vms_deleted_total"), Some(1.0));
    let reported = |m: &Metrics| m.note(Measured::Reported { events: 5 });
    assert_eq!(counted(reported, "ghost_events_reported_total"), Some(5.0));
}

#[test]
fn the_link_is_told_as_it_is_now() {
    let rig = Rig::new();
    assert_eq!(rig.value("ghost_control_plane_registered"), Some(1.0));
    // 2026-01-01, when the clock of tests begins.
    let heard = rig.value("ghost_heartbeat_last_success_timestamp_seconds").unwrap();
    assert!((heard - 1_767_225_600.0).abs() < 60.0, "{heard}");
    let link = Link::Refused(ControlError::refused("go away".to_owned()));
    rig.link.send_replace(LinkState { link, last_heard: None });
    assert_eq!(rig.value("ghost_control_plane_registered"), Some(0.0));
    assert_eq!(rig.value("ghost_heartbeat_last_success_timestamp_seconds"), None);
}

#[test]
fn what_is_looked_at_is_told_in_the_units_of_its_name() {
    let rig = Rig::new();
    rig.runs("web-1");
    let text = rig.metrics.render(Format::Classic);
    let gib = f64::from(1 << 30);
    for (series, expected) in [
        ("ghost_cpus{kind=\"total\"}", 64.0),
        ("ghost_cpus{kind=\"reserved\"}", 4.0),
        ("ghost_cpus{kind=\"allocated\"}", 1.0),
        ("ghost_cpus{kind=\"used\"}", 0.5),
        ("ghost_cpus{kind=\"available\"}", 59.0),
        ("ghost_memory_bytes{kind=\"reserved\"}", 64.0 * gib),
        ("ghost_disk_bytes{kind=\"allocated\"}", 10.0 * gib),
        ("ghost_cache_age_seconds", 0.0),
        ("ghost_libvirt_breaker_state{state=\"probing\"}", 1.0),
        ("ghost_libvirt_breaker_state{state=\"closed\"}", 0.0),
        ("ghost_libvirt_workers{state=\"idle\"}", 2.0),
        ("ghost_guest_policy_enforced{policy=\"io_weight\"}", 0.0),
        ("ghost_guest_policy_enforced{policy=\"network_filter\"}", 1.0),
        ("ghost_image_fetches", 1.0),
        ("ghost_image_cache_bytes", 3.0 * gib),
        ("ghost_image_cache_limit_bytes", 20.0 * gib),
        ("ghost_event_queue_events", 7.0),
        ("ghost_log_lines_total{level=\"warn\"}", 4.0),
        ("ghost_log_lines_dropped_total", 1.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}");
    }
}

#[test]
fn the_cache_is_as_old_as_the_last_contact_while_libvirt_is_away() {
    let rig = Rig::new();
    rig.registry.lost_contact();
    assert!(rig.value("ghost_cache_age_seconds") > Some(0.0));
}

#[tokio::test(start_paused = true)]
async fn the_size_of_the_image_cache_is_looked_at_every_minute_and_at_the_end_of_a_fetch() {
    let (world, began) = (World::new(), tokio::time::Instant::now());
    let ports = world.ports();
    let (tell, mut told) = watch::channel(None);
    let following = images::follow(Arc::clone(&ports.images), Arc::clone(&ports.clock), tell);
    let looking = async {
        told.changed().await.unwrap();
        assert_eq!(*told.borrow_and_update(), Some(CacheSize { images: 0, bytes: 0 }));
        let template = samples::catalog().iter().next().unwrap().clone();
        drop(ports.images.ensure_cached(&template).await.unwrap());
        told.changed().await.unwrap();
        assert_eq!(began.elapsed(), Duration::from_secs(60));
        assert_eq!(told.borrow_and_update().unwrap().images, 1);
        world.show_fetching(vec![fetching()]);
        tokio::task::yield_now().await;
        world.show_fetching(Vec::new());
        told.changed().await.unwrap();
        began.elapsed()
    };
    tokio::select! {
        // So that it has seen a fetch before that ends.
        biased;
        () = following => panic!("it ends"),
        passed = looking => assert_eq!(passed, Duration::from_secs(60)),
    }
}
