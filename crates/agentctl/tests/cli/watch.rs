//! `vm watch`: nothing is missing between two lines, and it ends as it should.

use std::process::Command;
use std::time::Duration;

use tonic::{Code, Status};

use crate::fake_agent::{Ending, FakeAgent, error, event, synced};
use crate::run::{BINARY, on_socket};
use crate::running::Running;

fn watch(agent: &FakeAgent, more: &[&str]) -> Running {
    Running::start(agent, &["vm", "watch"], more)
}

fn play(agent: &FakeAgent, streams: Vec<(Vec<ghost_proto::agentpb::VmEvent>, Ending)>) {
    agent.state.lock().unwrap().watching.streams = streams.into();
}

/// Without the time that each line begins with.
fn untimed(line: &str) -> &str {
    let (time, text) = line.split_at("2026-01-31 12:00:00".len());
    let time: jiff::civil::DateTime = time.parse().unwrap();
    let age = jiff::Zoned::now().datetime().duration_since(time);
    assert!(age.unsigned_abs() < Duration::from_secs(120), "{line} is not in local time");
    text
}

#[test]
fn the_state_comes_as_a_table_and_each_change_as_a_line() {
    let agent = FakeAgent::on_socket();
    let mut evil = event("changed", "3", "web-1", "error");
    if let Some(vm) = &mut evil.vm {
        vm.reason = "QEMU\u{1b}[2J\ndied".to_owned();
    }
    let told = vec![
        event("state", "1", "web-2", "running"),
        event("state", "1", "web-1", "running"),
        synced("1"),
        event("changed", "2", "web-2", "stopped"),
        evil,
        event("deleted", "4", "evil\u{1b}]0;x\u{7}", ""),
    ];
    play(&agent, vec![(told, Ending::Open)]);
    let watch = watch(&agent, &[]);
    let table: Vec<String> = (0..3).map(|_| watch.line()).collect();
    assert!(table[0].starts_with("NAME ") && table[1].starts_with("web-1  running"), "{table:?}");
    assert_eq!(untimed(&watch.line()), "  web-2: stopped, 192.168.122.50");
    assert_eq!(
        untimed(&watch.line()),
        "  web-1: error, 192.168.122.50: QEMU\u{fffd}[2J\u{fffd}died"
    );
    assert_eq!(untimed(&watch.line()), "  evil\u{fffd}]0;x\u{fffd}: deleted");
    watch.interrupt();
    assert_eq!(watch.end(), (vec![], vec![], Some(0)));
}

#[test]
fn a_broken_connection_is_resumed_behind_the_last_event() {
    let agent = FakeAgent::on_socket();
    play(
        &agent,
        vec![
            (vec![event("state", "1", "web-1", "running"), synced("1")], Ending::Open),
            (vec![event("changed", "2", "web-1", "stopped")], Ending::HangUp),
            (vec![event("changed", "3", "web-1", "running")], Ending::Open),
        ],
    );
    let watch = watch(&agent, &[]);
    assert_eq!([watch.line(), watch.line()].map(|line| line.len() > 5), [true, true]);
    agent.state.lock().unwrap().watching.cut();
    let lines: Vec<String> = (0..2).map(|_| watch.line()).collect();
    assert!(untimed(&lines[0]).starts_with("  web-1: stopped"), "{lines:?}");
    assert!(untimed(&lines[1]).starts_with("  web-1: running"), "{lines:?}");
    let broke = watch.remark();
    assert!(broke.contains("broke") && broke.ends_with("trying again in 0.2 s"), "{broke}");
    assert!(watch.remark().starts_with("connected to "));
    let hung_up = watch.remark();
    assert!(hung_up.contains("hung up; trying again"), "{hung_up}");
    assert!(watch.remark().starts_with("connected to "));
    watch.interrupt();
    assert_eq!(watch.end(), (vec![], vec![], Some(0)));
    assert_eq!(agent.state.lock().unwrap().watching.asked, ["", "1", "2"]);
}

#[test]
fn who_was_cut_off_while_being_told_is_told_from_the_begin() {
    let agent = FakeAgent::on_socket();
    let state = |name: &str, token: &str| event("state", token, name, "running");
    play(
        &agent,
        vec![
            (vec![state("web-1", "1"), synced("1"), state("web-2", "9")], Ending::Open),
            (vec![state("web-1", "9"), state("web-2", "9"), synced("9")], Ending::Open),
        ],
    );
    let watch = watch(&agent, &["-o", "json"]);
    let told: Vec<String> = (0..3).map(|_| watch.line()).collect();
    assert!(told[2].contains("web-2"), "{told:?}");
    agent.state.lock().unwrap().watching.cut();
    assert!(watch.line().contains("web-1"));
    watch.interrupt();
    assert_eq!(watch.end().2, Some(0));
    assert_eq!(agent.state.lock().unwrap().watching.asked, ["", "1"]);
}

#[test]
fn json_is_one_object_a_line() {
    let agent = FakeAgent::on_socket();
    let told = vec![
        event("state", "1", "web-1", "running"),
        synced("1"),
        event("changed", "2", "a\nb\u{1b}", "stopped"),
    ];
    play(&agent, vec![(told, Ending::Open)]);
    let watch = watch(&agent, &["--output", "json"]);
    let told: Vec<serde_json::Value> =
        (0..3).map(|_| serde_json::from_str(&watch.line()).unwrap()).collect();
    let kinds: Vec<_> = told.iter().map(|event| event["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["state", "synced", "changed"]);
    assert_eq!((&told[0]["vm"]["vcpu"], &told[2]["resume_token"]), (&2.into(), &"2".into()));
    assert_eq!(told[2]["vm"]["name"], "a\nb\u{1b}");
    assert!(told[1].get("vm").is_none(), "{told:?}");
    let time: Result<jiff::Timestamp, _> = told[0]["time"].as_str().unwrap().parse();
    assert!(time.is_ok(), "{told:?}");
    watch.interrupt();
    assert_eq!(watch.end().2, Some(0));
}

#[test]
fn an_agent_that_refuses_ends_the_watch_with_its_words() {
    let agent = FakeAgent::on_socket();
    let refuse =
        || Ending::Refuse(error(Code::InvalidArgument, "VALIDATION_ERROR", "no such token"));
    play(&agent, vec![(vec![], refuse())]);
    let run = on_socket(&agent.socket(), &["vm", "watch"]);
    assert_eq!((run.code, run.stderr.as_str()), (4, "error: no such token\n"), "{run:?}");

    play(&agent, vec![(vec![synced("1")], Ending::Open), (vec![], refuse())]);
    let watch = watch(&agent, &[]);
    watch.line();
    agent.state.lock().unwrap().watching.cut();
    let (_, err, code) = watch.end();
    assert_eq!(code, Some(4), "{err:?}");
    assert_eq!(err.last().unwrap(), "error: no such token");
    let status = Status::permission_denied("not you");
    play(&agent, vec![(vec![synced("1")], Ending::Refuse(status))]);
    assert_eq!(on_socket(&agent.socket(), &["vm", "watch"]).code, 9);
}

#[test]
fn no_agent_at_the_begin_is_a_failure_at_once() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(on_socket(&folder.path().join("no.sock"), &["vm", "watch"]).code, 7);
}

#[test]
fn a_reader_that_hangs_up_ends_the_watch() {
    let agent = FakeAgent::on_socket();
    play(&agent, vec![(vec![synced("1")], Ending::Open)]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = Command::new(BINARY)
        .args(["--socket", agent.socket().to_str().unwrap(), "vm", "watch"])
        .stdout(writer)
        .spawn()
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
