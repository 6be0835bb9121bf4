//! The level of the agent's log.

use ghost_proto::agentpb::LogLevel;

use crate::fake_agent::FakeAgent;
use crate::run::on_socket;

fn agent() -> FakeAgent {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().log_level =
        Some(LogLevel { level: "info".into(), configured: "info".into(), until: String::new() });
    agent
}

#[test]
fn the_level_is_shown_set_for_a_time_and_taken_back() {
    let agent = agent();
    let run = |args: &[&str]| {
        let run = on_socket(&agent.socket(), &[&["log-level"], args].concat());
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
        run.stdout
    };
    assert_eq!(run(&[]), "info, as configured\n");
    assert_eq!(run(&["debug", "--for", "10m"]), "debug until +600 s, then info as configured\n");
    assert_eq!(run(&[]), "debug until +600 s, then info as configured\n");
    assert_eq!(run(&["warn"]), "warn until the agent ends, then info as configured\n");
    assert_eq!(run(&["--reset"]), "info, as configured\n");
    let json = on_socket(&agent.socket(), &["log-level", "error", "--for", "2h", "-o", "json"]);
    assert_eq!(
        json.json(),
        serde_json::json!({"level": "error", "configured": "info", "until": "+7200 s"})
    );
}

#[test]
fn what_makes_no_sense_is_refused_before_the_agent_is_asked() {
    let agent = agent();
    for wrong in [
        &["log-level", "verbose"][..],
        &["log-level", "--for", "10m"],
        &["log-level", "debug", "--for", "8d"],
        &["log-level", "debug", "--reset"],
    ] {
        let run = on_socket(&agent.socket(), wrong);
        assert_eq!(run.code, 2, "{run:?}");
    }
    assert_eq!(agent.state.lock().unwrap().log_level.as_ref().unwrap().level, "info");
}
