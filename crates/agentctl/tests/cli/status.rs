//! The one screen.

use ghost_proto::agentpb::{GetHealthResponse, HealthCheck};

use crate::fake_agent::FakeAgent;
use crate::run::{agentctl, on_socket};

fn check(name: &str, status: &str) -> HealthCheck {
    let wrong = |text: &str| if status == "up" { String::new() } else { text.to_owned() };
    HealthCheck {
        name: name.to_owned(),
        status: status.to_owned(),
        message: wrong("it is broken"),
        remedy: wrong("mend it"),
        since: "2026-03-01T12:00:00Z".to_owned(),
        checked_at: "2026-03-01T12:00:00Z".to_owned(),
    }
}

fn agent(status: &str, checks: Vec<HealthCheck>) -> FakeAgent {
    let agent = FakeAgent::on_socket().with_vms(&["a", "b", "c"]);
    agent.state.lock().unwrap().health = Some(GetHealthResponse {
        status: status.to_owned(),
        version: "0.1.0".to_owned(),
        since: "2026-03-01T12:00:00Z".to_owned(),
        started_at: "2026-03-01T11:00:00Z".to_owned(),
        timestamp: "2026-03-01T12:00:01Z".to_owned(),
        ready: status != "unhealthy",
        checks,
        metrics: [("memory_mb".to_owned(), 24.0), ("vms_running".to_owned(), 3.0)].into(),
    });
    agent
}

#[test]
fn a_healthy_agent_is_told_with_its_vms_and_what_they_cost() {
    let agent = agent("healthy", vec![check("libvirt", "up")]);
    let run = on_socket(&agent.socket(), &["status"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    assert!(run.stdout.starts_with("healthy for "), "{}", run.stdout);
    assert!(!run.stdout.contains("What to do"), "{}", run.stdout);
    for vm in ["a", "b", "c"] {
        assert!(run.stdout.contains(&format!("\n  {vm}     running")), "{}", run.stdout);
    }
    assert!(run.stdout.contains("  agent   22.9 MiB\n"), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "no colours without a terminal: {run:?}");
}

#[test]
fn a_degraded_agent_works_and_an_unhealthy_one_fails_the_command() {
    for (status, state, code) in [("degraded", "degraded", 0), ("unhealthy", "down", 1)] {
        let agent = agent(status, vec![check("libvirt", state), check("api", "up")]);
        let run = on_socket(&agent.socket(), &["status"]);
        assert_eq!(run.code, code, "{run:?}");
        assert!(run.stdout.starts_with(status), "{run:?}");
        assert!(run.stdout.contains("What to do\n  libvirt "), "{run:?}");
        assert!(run.stdout.contains(":\n    it is broken\n  ▶ mend it\n"), "{run:?}");
        assert!(!run.stdout.contains("api"), "{run:?}");
    }
}

#[test]
fn documents_have_every_field() {
    let agent = agent("degraded", vec![check("api", "degraded"), check("libvirt", "up")]);
    let run = on_socket(&agent.socket(), &["status", "-o", "json"]);
    let json = run.json();
    assert_eq!((run.code, &json["status"]), (0, &"degraded".into()), "{run:?}");
    assert_eq!(
        json["checks"][0],
        serde_json::json!({"name": "api", "status": "degraded", "message": "it is broken",
            "remedy": "mend it", "since": "2026-03-01T12:00:00Z", "checked_at": "2026-03-01T12:00:00Z"})
    );
    assert_eq!(json["vms"].as_array().map(Vec::len), Some(3), "{json}");
    assert_eq!(json["metrics"]["memory_mb"], 24.0);
    assert!(json["host"].is_object(), "{json}");
    let yaml = on_socket(&agent.socket(), &["status", "-o", "yaml"]).stdout;
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json);
}

#[test]
fn a_host_that_is_not_known_hides_nothing_else() {
    let agent = agent("unhealthy", vec![check("libvirt", "down")]);
    agent.state.lock().unwrap().node_is_unknown = true;
    let run = on_socket(&agent.socket(), &["status"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""), "{run:?}");
    assert!(run.stdout.contains("not known: libvirt, or its storage pool, was away"), "{run:?}");
    assert!(run.stdout.contains("▶ mend it"), "{run:?}");
}

#[test]
fn an_agent_that_does_not_run_is_told_with_what_becomes_of_the_vms() {
    let run = agentctl(&["--socket", "/no/such/agent.sock", "status"]);
    assert_eq!((run.code, run.stdout.as_str()), (7, ""), "{run:?}");
    for words in ["/no/such/agent.sock", "systemctl start ghost-agent", "VMs that run go on"] {
        assert!(run.stderr.contains(words), "{words}: {run:?}");
    }
    let json = agentctl(&["--socket", "/no/such/agent.sock", "status", "-o", "json"]);
    assert_eq!(json.error_json()["exit_code"], 7);
}

#[test]
fn an_older_agent_that_knows_no_health_is_named_so() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(&agent.socket(), &["status"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("upgrade the older"), "{run:?}");
}
