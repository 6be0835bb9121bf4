//! `top` without a terminal; with one see `terminal`.

use crate::fake_agent::FakeAgent;
use crate::run::on_socket;

#[test]
fn without_a_terminal_one_table_is_printed_busiest_first() {
    let agent = FakeAgent::on_socket().with_vms(&["a-vm", "busy", "off"]);
    on_socket(&agent.socket(), &["vm", "stop", "off"]);
    for args in [&["top"][..], &["top", "--once"]] {
        let run = on_socket(&agent.socket(), args);
        assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
        assert!(!run.stdout.contains('\u{1b}'), "{run:?}");
        let lines: Vec<Vec<&str>> =
            run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 4, "{run:?}");
        let dashes = ["-", "-"];
        let busy = ["busy", "running", "80.0", "50.2", "1", "GiB", "1.5", "GiB", "of", "20", "GiB"];
        assert_eq!(lines[1], [&busy[..], &dashes].concat());
        assert_eq!((lines[2][0], lines[3][0], lines[3][2]), ("a-vm", "off", "-"));
    }
}

#[test]
fn documents_have_numbers_and_null_for_what_is_not_known() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    agent.state.lock().unwrap().age = Some(12);
    let run = on_socket(&agent.socket(), &["top", "-o", "json"]);
    assert_eq!(run.stderr, "as of 12 s ago: libvirt does not answer the agent\n");
    let vm = &run.json()[0];
    assert_eq!(
        (&vm["disk_used_bytes"], &vm["cpu_usage_percent"]),
        (&(3 << 29).into(), &1.0.into())
    );
    assert!(vm["net_rx_bytes_per_second"].is_null(), "{vm}");
}

#[test]
fn a_hostile_name_cannot_command_the_terminal() {
    let agent = FakeAgent::on_socket().with_vms(&["evil\u{1b}[2J\nforged"]);
    let run = on_socket(&agent.socket(), &["top"]);
    assert!(run.stdout.contains("evil\u{fffd}[2J\u{fffd}forged"), "{run:?}");
    assert_eq!(run.stdout.lines().count(), 2);
}

#[test]
fn an_interval_must_be_a_time() {
    let agent = FakeAgent::on_socket();
    for interval in ["0", "fast", "-1"] {
        let arg = format!("--interval={interval}");
        assert_eq!(on_socket(&agent.socket(), &["top", &arg]).code, 2, "{interval}");
    }
}
