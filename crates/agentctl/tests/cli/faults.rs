//! Every way to fail: its exit code, its words, and nothing on standard output.

use crate::fake_agent::FakeAgent;
use crate::run::{agentctl, command, finish, on_socket};

#[test]
fn each_kind_of_failure_has_its_exit_code_and_passes_on_the_agents_words() {
    let agent = FakeAgent::on_socket();
    for (vm, code, words) in [
        ("nobody", 3, "there is no VM nobody; agentctl vm list shows all"),
        ("busy", 5, "another operation is under way"),
        ("wrong-state", 5, "it is being deleted"),
        ("full", 6, "asked 8 GiB, 5 left"),
        ("no-libvirt", 7, "libvirt is away; try again in 5 s"),
        ("no-lease", 8, "no address in 120 s"),
        ("foreign", 9, "grpc.allowed_clients"),
        ("broken", 1, "the agent is at fault"),
    ] {
        let run = on_socket(&agent.socket(), &["vm", "start", vm]);
        assert_eq!((run.code, run.stdout.as_str()), (code, ""), "{vm}: {run:?}");
        assert!(run.stderr.starts_with("error: "), "{vm}: {run:?}");
        assert!(run.stderr.contains(words), "{vm}: {run:?}");
    }
}

#[test]
fn a_name_that_is_taken_is_a_conflict() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let run = on_socket(&agent.socket(), &["vm", "create", "web-1", "--template", "t"]);
    assert_eq!(run.code, 5, "{run:?}");
}

#[test]
fn every_wrong_field_is_a_bullet() {
    let agent = FakeAgent::on_socket();
    let args = ["vm", "create", "web-1", "--template", "t", "--vcpu", "33", "--ram", "-1"];
    let run = on_socket(&agent.socket(), &args);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(
        run.stderr,
        "error: invalid request\n  - vcpu: must be 1 to 32\n  - ram_gb: must be 1 to 128\n"
    );
}

#[test]
fn failures_are_documents_too() {
    let agent = FakeAgent::on_socket();
    let args =
        ["vm", "create", "web-1", "--template", "t", "--vcpu", "33", "--request-id", "r-1", "-o"];
    let json = on_socket(&agent.socket(), &[&args[..], &["json"]].concat());
    let error = json.error_json();
    assert_eq!(
        (&error["exit_code"], &error["error"]["code"]),
        (&4.into(), &"VALIDATION_ERROR".into())
    );
    assert_eq!(error["error"]["violations"][0]["field"], "vcpu");
    let yaml = on_socket(&agent.socket(), &[&args[..], &["yaml"]].concat());
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml.stderr).unwrap(), error);

    let busy = on_socket(&agent.socket(), &["vm", "start", "busy", "-o", "json"]).error_json();
    assert_eq!(busy["error"]["metadata"]["vm_name"], "web-1");
    let away =
        on_socket(&agent.socket(), &["vm", "start", "no-libvirt", "-o", "json"]).error_json();
    assert_eq!(away["error"]["retry_after_seconds"], 4.2);
}

#[test]
fn the_guests_last_words_are_shown_and_cannot_command_the_terminal() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(&agent.socket(), &["vm", "create", "no-lease", "--template", "t"]);
    assert!(run.stderr.contains("\n  console:\n    Booting\n    Kernel "), "{run:?}");
    assert!(!run.stderr.contains('\u{1b}'), "{run:?}");
}

#[test]
fn a_long_console_arrives_whole() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(&agent.socket(), &["vm", "start", "long-story"]);
    assert_eq!(run.code, 8, "{run:?}");
    assert_eq!(run.stderr.matches("line of the console").count(), 2000);
}

#[test]
fn a_create_that_may_go_on_says_how_to_repeat_it_safely() {
    let agent = FakeAgent::on_socket();
    for vm in ["no-libvirt", "no-lease"] {
        let args = ["vm", "create", vm, "--template", "t", "--request-id", "r-7"];
        let run = on_socket(&agent.socket(), &args);
        assert!(run.stderr.contains("--request-id r-7"), "{run:?}");
    }
}

#[test]
fn a_call_that_hangs_ends_with_the_timeout() {
    let agent = FakeAgent::on_socket();
    for verb in [["status", "hang"], ["start", "hang"], ["stop", "hang"]] {
        let run = on_socket(&agent.socket(), &["--timeout", "1s", "vm", verb[0], verb[1]]);
        assert_eq!(run.code, 8, "{run:?}");
        assert!(run.stderr.contains("no answer in 1 s; give it longer with --timeout"), "{run:?}");
    }
}

#[test]
fn without_a_terminal_a_create_asks_for_no_progress_and_shows_none() {
    let agent = FakeAgent::on_socket();
    let args = ["--timeout", "1s", "vm", "create", "hang", "--template", "t", "-o", "json"];
    let run = on_socket(&agent.socket(), &args);
    assert_eq!(run.error_json()["exit_code"], 8, "{run:?}");
    assert_eq!(agent.state.lock().unwrap().status_asks, 0);
}

#[test]
fn no_agent_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("agent.sock");
    let run = on_socket(&missing, &["vm", "list"]);
    assert_eq!(run.code, 7);
    assert!(run.stderr.contains("systemctl start ghost-agent"), "{run:?}");

    drop(std::os::unix::net::UnixListener::bind(&missing).unwrap());
    let run = on_socket(&missing, &["vm", "list"]);
    assert_eq!(run.code, 7);
    assert!(run.stderr.contains("nobody listens"), "{run:?}");
}

#[test]
fn an_agent_that_hangs_up_is_unavailable() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let hang_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
    let run = on_socket(&path, &["vm", "list"]);
    hang_up.join().unwrap();
    assert_eq!(run.code, 7, "{run:?}");
    assert!(run.stderr.contains("broke") && run.stderr.contains("journalctl"), "{run:?}");
}

#[test]
fn a_stranger_on_the_socket_is_unavailable_within_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.sock");
    // It accepts in the kernel's queue and never speaks.
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let run = on_socket(&path, &["--timeout", "1s", "vm", "list"]);
    assert_eq!(run.code, 8, "{run:?}");
}

#[test]
fn the_socket_and_the_timeout_also_come_from_the_environment() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let mut run = command(&["vm", "status", "hang"]);
    run.env("GHOST_AGENT_SOCKET", agent.socket()).env("AGENTCTL_TIMEOUT", "1s");
    assert_eq!(finish(run).code, 8);
}

#[test]
fn wrong_usage_is_refused_before_anything_is_sent() {
    let agent = FakeAgent::on_socket();
    let create = ["vm", "create", "web-1", "--template", "t"];
    let with = |more: &[&'static str]| [&create[..], more].concat();
    for args in [
        vec!["vm", "create", "web-1"],
        vec!["vm", "create", "--template", "t"],
        vec!["vm", "list", "--status", "asleep"],
        vec!["vm", "delete"],
        vec!["vm", "list", "-o", "xml"],
        vec!["vm", "list", "--timeout", "0"],
        with(&["--vcpu", "two"]),
        with(&["--ram", "1.5"]),
        with(&["--disk", "10T"]),
        with(&["--metadata", "novalue"]),
        with(&["--metadata", "a=1", "--metadata", "a=2"]),
        with(&["--ssh-key", "/no/such/key.pub"]),
        with(&["--user-data", "/no/such/file"]),
        with(&["--addr", "127.0.0.1:1"]),
    ] {
        let run = on_socket(&agent.socket(), &args);
        assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{args:?}: {run:?}");
    }
    assert!(agent.state.lock().unwrap().creates.is_empty());
}

#[test]
fn a_remote_agent_needs_certificates() {
    let run = agentctl(&["--addr", "127.0.0.1:1", "vm", "list"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--certs"), "{run:?}");
}

#[test]
fn a_reader_that_hangs_up_is_no_failure() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let status = std::process::Command::new(crate::run::BINARY)
        .args(["--socket", agent.socket().to_str().unwrap(), "vm", "list"])
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(0));
}
