//! The shape of a line.

use ghost_core::domain::{AppError, ErrorKind};
use tracing_subscriber::layer::SubscriberExt as _;

use super::super::cause;
use super::*;

#[tokio::test(start_paused = true)]
async fn a_line_has_the_fields_of_its_spans_on_top_and_each_key_once() {
    let rig = Rig::new(|_| {});
    let call = tracing::info_span!(
        "call",
        rpc = "CreateVM",
        request_id = "r-1",
        vm_id = tracing::field::Empty
    );
    let _in = call.enter();
    call.record("vm_id", "id-1");
    let step = tracing::info_span!("step", step = "disk", rpc = "inner");
    let _in = step.enter();
    tracing::info!(n = 3, step = "the event's", ok = true, part = 0.5, target = "x", "done");
    let text = rig.text();
    assert_eq!(
        text,
        "{\"timestamp\":\"2026-01-01T00:00:00.000Z\",\"level\":\"INFO\",\
         \"target\":\"ghost_agent::observability::logging::tests::lines\",\"message\":\"done\",\
         \"request_id\":\"r-1\",\"vm_id\":\"id-1\",\"n\":3,\"step\":\"the event's\",\"ok\":true,\"part\":0.5,\
         \"target_\":\"x\",\"rpc\":\"inner\"}\n"
    );
    for key in ["rpc", "step", "request_id", "target"] {
        assert_eq!(text.matches(&format!("\"{key}\":")).count(), 1, "{text}");
    }
}

#[tokio::test]
async fn an_error_is_told_with_its_class_its_causes_as_a_list_and_where_a_fault_was_found() {
    let rig = Rig::new(|_| {});
    let disk = std::io::Error::other("disk on fire");
    let error = AppError::new(ErrorKind::Internal, "cannot encode").because(disk);
    tracing::error!(error = cause(&error), "failed");
    let line = rig.last();
    assert_eq!(line["error"], "cannot encode");
    assert_eq!(line["error_code"], "INTERNAL_ERROR");
    assert_eq!(line["error_chain"], serde_json::json!(["cannot encode", "disk on fire"]));
    let found = line["backtrace"].as_array().unwrap();
    assert!(
        found.iter().any(|frame| frame.as_str().unwrap().contains("an_error_is_told")),
        "{line}"
    );

    let error = AppError::new(ErrorKind::NotFound, "there is no VM x");
    tracing::info!(error = cause(&error), error_code = "MINE", "refused");
    let line = rig.last();
    assert_eq!((&line["error_code"], &line["backtrace"]), (&"MINE".into(), &Json::Null));
    assert_eq!(line["error_chain"], serde_json::json!(["there is no VM x"]));
}

#[tokio::test]
async fn no_value_can_forge_a_line_or_command_a_terminal() {
    const EVIL: &str = "a\nb\r\u{1b}[2J\u{9b}31m\u{202e}\u{2028}\0\"\\é😀";
    for format in [LogFormat::Json, LogFormat::Text] {
        let rig = Rig::new(|logging| logging.format = format);
        let span = tracing::info_span!("call", caller = EVIL);
        span.in_scope(|| {
            tracing::error!(name = EVIL, error = cause(&std::io::Error::other(EVIL)), "{EVIL}")
        });
        let text = rig.text();
        assert_eq!(text.matches('\n').count(), 1, "{text:?}");
        let bad = |c: char| c != '\n' && super::super::escape::commands(c);
        assert!(!text.contains(bad), "{text:?}");
        if format == LogFormat::Json {
            let line = rig.last();
            for key in ["message", "name", "caller", "error"] {
                assert_eq!(line[key], EVIL, "{text}");
            }
        }
    }
}

#[tokio::test]
async fn text_is_for_eyes_and_quotes_what_could_be_taken_for_another_value() {
    let rig = Rig::new(|logging| logging.format = LogFormat::Text);
    let disk = std::io::Error::other("disk on fire");
    let error = AppError::new(ErrorKind::HypervisorFailed, "cannot define").because(disk);
    let span = tracing::info_span!("call", request_id = "r-1");
    span.in_scope(|| tracing::warn!(error = cause(&error), name = "x level=error", "failed"));
    assert_eq!(
        &rig.text()[24..],
        "  WARN ghost_agent::observability::logging::tests::lines: failed request_id=r-1 \
         error_code=HYPERVISOR_ERROR error=\"cannot define\" name=\"x level=error\" (cause: disk on fire)\n"
    );
}

#[tokio::test]
async fn a_value_that_is_very_long_is_cut_and_says_so() {
    let rig = Rig::new(|_| {});
    tracing::info!(console = "é".repeat(20_000), "failed");
    let line = rig.last();
    let console = line["console"].as_str().unwrap();
    assert!(console.ends_with("… (23616 bytes more)"), "{}", console.len());
    assert!(console.len() < 17_000);
}

#[tokio::test]
async fn a_panic_is_one_line_with_where_it_was() {
    let rig = Rig::new(|_| {});
    super::super::panics::log(rig.log.clone());
    std::panic::catch_unwind(|| panic!("out of\nideas")).unwrap_err();
    let _default = std::panic::take_hook();
    let line = rig.last();
    assert_eq!(
        (&line["message"], &line["error_code"]),
        (&"panicked".into(), &"INTERNAL_ERROR".into())
    );
    assert!(line["error"].as_str().unwrap().contains("out of\nideas"), "{line}");
    assert!(line["at"].as_str().unwrap().contains("tests/lines.rs"), "{line}");
    let found = line["backtrace"].to_string();
    assert!(found.contains("a_panic_is_one_line"), "{found}");
}

#[tokio::test]
async fn the_last_lines_are_kept_in_json_and_all_are_counted() {
    let rig = Rig::new(|logging| logging.format = LogFormat::Text);
    tracing::info!("one");
    tracing::warn!(n = 2, "two");
    tracing::debug!("not asked for");
    let recent = rig.log.recent(1);
    assert_eq!(json(&recent[0])[0]["n"], 2);
    assert_eq!(rig.log.recent(10).len(), 2);
    assert_eq!(rig.log.lines().map(|(_, n)| n), [0, 1, 1, 0]);
    assert_eq!(rig.log.lines()[2].0, LogLevel::Warn);
    assert_eq!(rig.log.dropped(), 0);
}

#[test]
fn lines_can_be_logged_from_many_threads_at_once_and_each_stays_whole() {
    let folder = tempfile::tempdir().unwrap();
    let logging = logging(&folder.path().join("agent.log"));
    let around = Surroundings { palette: Palette::Plain, journal: None };
    let (log, lines) = start(&logging, &around, Arc::new(FakeClock::default())).unwrap();
    let dispatch = tracing::Dispatch::new(tracing_subscriber::registry().with(lines));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let dispatch = &dispatch;
            scope.spawn(move || {
                tracing::dispatcher::with_default(dispatch, || {
                    (0..500).for_each(|n| tracing::info!(thread, n, "line"));
                });
            });
        }
    });
    log.flush(SOON);
    let lines = json(&std::fs::read_to_string(&logging.file).unwrap());
    assert_eq!(lines.len(), 2000);
    for thread in 0..4 {
        let mine: Vec<_> = lines.iter().filter(|line| line["thread"] == thread).collect();
        assert!(mine.iter().enumerate().all(|(n, line)| line["n"] == n), "in order");
    }
}

#[tokio::test]
async fn a_fault_is_found_inside_whatever_wraps_it() {
    let rig = Rig::new(|_| {});
    let fault = || AppError::new(ErrorKind::Internal, "cannot encode");
    let wrapped = std::io::Error::other(fault());
    let outer =
        AppError::new(ErrorKind::Internal, "cannot save").because(std::io::Error::other(fault()));
    tracing::error!(error = cause(&wrapped), "failed");
    tracing::error!(error = cause(&outer), "failed");
    let added = anyhow::Error::from(fault()).context("cannot start");
    let added: &(dyn std::error::Error + 'static) = added.as_ref();
    tracing::error!(error = added, "failed");
    for (line, chain) in rig.lines().iter().zip([
        vec!["cannot encode"],
        vec!["cannot save", "cannot encode"],
        vec!["cannot start", "cannot encode"],
    ]) {
        assert_eq!(line["error_code"], "INTERNAL_ERROR", "{line}");
        assert_eq!(line["error_chain"], serde_json::json!(chain));
        assert!(line["backtrace"].is_array(), "{line}");
    }
    assert_eq!(rig.lines().len(), 3);
}
