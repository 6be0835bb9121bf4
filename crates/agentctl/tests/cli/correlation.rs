//! By what a command is found again.

use ghost_proto::agentpb::VmEvent;

use crate::fake_agent::{Ending, FakeAgent, event};
use crate::run::{command, finish, on_socket};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn ids(agent: &FakeAgent) -> Vec<(String, String)> {
    agent.state.lock().unwrap().ids.clone()
}

#[test]
fn a_command_tells_the_agent_its_id_and_the_trace_that_it_is_part_of() {
    let agent = FakeAgent::on_socket().with_vms(&["web"]);
    let socket = agent.socket();
    let socket = socket.to_str().unwrap();
    let mut run = command(&["--socket", socket, "vm", "start", "web", "--request-id", "r-1"]);
    run.env("TRACEPARENT", PARENT).env("GHOST_REQUEST_ID", "from-env");
    assert_eq!(finish(run).code, 0);
    let mut run = command(&["--socket", socket, "vm", "status", "web"]);
    run.env("TRACEPARENT", "nonsense").env("GHOST_REQUEST_ID", "from-env");
    assert_eq!(finish(run).code, 0);
    let told = [("r-1", PARENT), ("from-env", "")].map(|(a, b)| (a.to_owned(), b.to_owned()));
    assert_eq!(ids(&agent), told);
}

#[test]
fn without_one_each_command_has_a_new_id_that_all_of_its_calls_share() {
    let agent = FakeAgent::on_socket().with_vms(&["a-vm", "b-vm", "c-vm"]);
    // Two VMs a page.
    assert_eq!(on_socket(&agent.socket(), &["vm", "list"]).code, 0);
    assert_eq!(on_socket(&agent.socket(), &["vm", "create", "web", "--template", "t"]).code, 0);
    let ids: Vec<String> = ids(&agent).into_iter().map(|(id, _)| id).collect();
    let [first, second, create] = ids.as_slice() else { panic!("{ids:?}") };
    assert!(uuid::Uuid::parse_str(first).is_ok() && first == second && first != create, "{ids:?}");
    let creates = agent.state.lock().unwrap().creates.clone();
    assert_eq!(&creates[0].request_id, create);
}

#[test]
fn one_variable_for_many_commands_does_not_make_their_vms_one() {
    let agent = FakeAgent::on_socket();
    for name in ["one-vm", "two-vm"] {
        let mut run = command(&["--socket", agent.socket().to_str().unwrap()]);
        run.args(["vm", "create", name, "--template", "t"]).env("GHOST_REQUEST_ID", "all");
        assert_eq!(finish(run).code, 0);
    }
    assert!(ids(&agent).iter().all(|(id, _)| id == "all"));
    let creates = agent.state.lock().unwrap().creates.clone();
    assert_ne!(creates[0].request_id, creates[1].request_id);
}

#[test]
fn a_failure_that_the_agents_log_explains_names_the_id_to_look_for() {
    let agent = FakeAgent::on_socket();
    let fails = |vm: &str, more: &[&str]| {
        let args = ["vm", "start", vm, "--request-id", "r-7"];
        on_socket(&agent.socket(), &[&args[..], more].concat())
    };
    let broken = fails("broken", &[]);
    assert!(broken.stderr.ends_with("(request id r-7)\n"), "{broken:?}");
    let hung = fails("hang", &["--timeout", "1s"]);
    assert!(hung.stderr.contains("(request id r-7)"), "{hung:?}");
    // What its caller can mend needs no log; documents name it all the same.
    assert!(!fails("nobody", &[]).stderr.contains("r-7"));
    assert_eq!(fails("nobody", &["-o", "json"]).error_json()["error"]["request_id"], "r-7");
}

#[test]
fn an_id_that_is_none_is_a_wrong_usage() {
    let agent = FakeAgent::on_socket();
    let socket = agent.socket();
    for wrong in ["", "has space", &"x".repeat(129)] {
        assert_eq!(on_socket(&socket, &["vm", "list", "--request-id", wrong]).code, 2, "{wrong}");
    }
    let mut run = command(&["--socket", socket.to_str().unwrap(), "vm", "list"]);
    run.env("GHOST_REQUEST_ID", "has space");
    let run = finish(run);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("GHOST_REQUEST_ID"), "{run:?}");
}

#[test]
fn a_watcher_is_shown_the_command_that_caused_a_change() {
    let agent = FakeAgent::on_socket();
    let caused = VmEvent {
        request_id: "r-1".to_owned(),
        traceparent: PARENT.to_owned(),
        ..event("changed", "2", "web", "running")
    };
    let streams = vec![(vec![event("changed", "1", "web", "stopped"), caused], Ending::HangUp)];
    agent.state.lock().unwrap().watching.streams = streams.into();
    let watch = crate::running::Running::start(&agent, &["vm", "watch"], &["-o", "json"]);
    let line = || -> serde_json::Value { serde_json::from_str(&watch.line()).unwrap() };
    let (own, caused) = (line(), line());
    assert!(own.get("request_id").is_none(), "{own}");
    assert_eq!((&caused["request_id"], &caused["traceparent"]), (&"r-1".into(), &PARENT.into()));
}
