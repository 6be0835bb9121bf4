//! Every verb of `vm`, in every format.

use crate::fake_agent::{ADDRESS, FakeAgent};
use crate::run::{command, finish, on_socket};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJrGz9 me@host";

#[test]
fn create_sends_all_that_was_asked_and_prints_the_address() {
    let agent = FakeAgent::on_socket();
    let key_file = agent.folder().join("id.pub");
    std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
    let mut run = command(&["--socket", agent.socket().to_str().unwrap(), "vm", "create", "web-1"]);
    run.args(["--vcpu", "2", "--ram", "4GiB", "--disk", "20", "--template", "debian-12"])
        .args(["--ssh-key", KEY, "--ssh-key", key_file.to_str().unwrap(), "--user-data", "-"])
        .args(["--metadata", "owner=me", "--metadata", "note=a=b", "--request-id", "r-1"])
        .write_stdin("#cloud-config\n");
    let run = finish(run);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains(ADDRESS) && run.stdout.contains("id-of-web-1"), "{run:?}");
    assert_eq!(run.stderr, "", "no spinner without a terminal");

    let asked = agent.state.lock().unwrap().creates.clone();
    let [asked] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!((asked.vcpu, asked.ram_gb, asked.disk_gb), (2, 4, 20));
    assert_eq!((asked.name.as_str(), asked.template.as_str()), ("web-1", "debian-12"));
    assert_eq!(asked.ssh_authorized_keys, [KEY, KEY]);
    assert_eq!(asked.user_data, "#cloud-config\n");
    assert_eq!((asked.metadata["owner"].as_str(), asked.metadata["note"].as_str()), ("me", "a=b"));
    assert_eq!(asked.request_id, "r-1");
}

#[test]
fn create_makes_a_request_id_of_its_own_each_time() {
    let agent = FakeAgent::on_socket();
    for name in ["one-vm", "two-vm"] {
        let run =
            on_socket(&agent.socket(), &["vm", "create", name, "--template", "t", "-o", "json"]);
        assert_eq!(run.json()["name"], name);
    }
    let ids: Vec<String> =
        agent.state.lock().unwrap().creates.iter().map(|asked| asked.request_id.clone()).collect();
    assert!(ids.iter().all(|id| uuid::Uuid::parse_str(id).is_ok()), "{ids:?}");
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_vm_that_was_kept_failed_is_shown_and_is_a_failure() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(
        &agent.socket(),
        &["vm", "create", "kept-failed", "--template", "t", "-o", "json"],
    );
    assert_eq!(run.code, 1);
    assert_eq!(run.json()["error"], "no address in 120 s");
}

#[test]
fn list_follows_every_page() {
    let names = ["a-vm", "b-vm", "c-vm", "d-vm", "e-vm"];
    let agent = FakeAgent::on_socket().with_vms(&names);
    let run = on_socket(&agent.socket(), &["vm", "list", "-o", "json"]);
    let listed: Vec<String> = run
        .json()
        .as_array()
        .unwrap()
        .iter()
        .map(|vm| vm["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(listed, names);
    assert_eq!(agent.state.lock().unwrap().pages, 3);
}

#[test]
fn list_is_a_table_for_people() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "database"]);
    let run = on_socket(&agent.socket(), &["vm", "list"]);
    let lines: Vec<Vec<&str>> =
        run.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "STATUS", "ADDRESS", "ID"]);
    assert_eq!(lines[1], ["database", "running", ADDRESS, "id-of-database"]);
    assert_eq!(lines.len(), 3);
}

#[test]
fn why_a_vm_is_not_well_is_told_beside_it() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "web-2"]);
    agent.state.lock().unwrap().vms.get_mut("web-1").unwrap().reason = "QEMU died\u{1b}[31m".into();
    for verb in [&["vm", "list"][..], &["vm", "status", "web-1"]] {
        let run = on_socket(&agent.socket(), verb);
        assert!(run.stdout.contains("QEMU died\u{fffd}[31m"), "{run:?}");
    }
    let listed = on_socket(&agent.socket(), &["vm", "list", "-o", "json"]).json();
    assert_eq!(listed[0]["reason"], "QEMU died\u{1b}[31m");
    assert!(listed[1].get("reason").is_none(), "{listed}");
}

#[test]
fn an_answer_from_memory_says_how_old_it_is_beside_it() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    agent.state.lock().unwrap().age = Some(75);
    for verb in [&["vm", "list", "-o", "json"][..], &["vm", "status", "web-1", "-o", "json"]] {
        let run = on_socket(&agent.socket(), verb);
        assert_eq!(run.stderr, "as of 1 min 15 s ago: libvirt does not answer the agent\n");
        assert!(!run.json().is_null());
    }
}

#[test]
fn list_can_be_narrowed_to_a_status() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "web-2"]);
    on_socket(&agent.socket(), &["vm", "stop", "web-2"]);
    let run = on_socket(&agent.socket(), &["vm", "list", "--status", "stopped", "-o", "json"]);
    assert_eq!(run.json().as_array().unwrap().len(), 1);
    assert_eq!(run.json()[0]["name"], "web-2");
}

#[test]
fn an_empty_list_is_an_empty_document() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(&agent.socket(), &["vm", "list", "-o", "json"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "[]\n"));
}

#[test]
fn an_agent_that_repeats_a_page_does_not_trap_us() {
    let agent = FakeAgent::on_socket().with_vms(&["endless"]);
    let run = on_socket(&agent.socket(), &["vm", "list"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.stderr.contains("twice"), "{run:?}");
}

#[test]
fn status_shows_one_vm_in_each_format() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let show = |format: &str| on_socket(&agent.socket(), &["-o", format, "vm", "status", "web-1"]);
    let table = show("table").stdout;
    assert!(table.contains("1 h 2 min") && table.contains("2 vCPU, 4 GiB memory"), "{table}");
    let json = show("json").json();
    assert_eq!((&json["uptime_seconds"], &json["vcpu"]), (&3725.into(), &2.into()));
    let yaml: serde_json::Value = serde_saphyr::from_str(&show("yaml").stdout).unwrap();
    assert_eq!(yaml, json);
}

#[test]
fn stop_asks_the_guest_unless_forced() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let run = on_socket(&agent.socket(), &["vm", "stop", "web-1"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "web-1: stopped\n"));
    on_socket(&agent.socket(), &["vm", "stop", "web-1", "--force"]);
    let forced: Vec<bool> =
        agent.state.lock().unwrap().stops.iter().map(|asked| asked.force).collect();
    assert_eq!(forced, [false, true]);
}

#[test]
fn start_says_what_the_agent_adds() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "no-address"]);
    on_socket(&agent.socket(), &["vm", "stop", "web-1"]);
    let run = on_socket(&agent.socket(), &["vm", "start", "web-1", "-o", "json"]);
    assert_eq!(run.json(), serde_json::json!({"vm": "web-1", "status": "running"}));
    assert_eq!(agent.status_of("web-1").as_deref(), Some("running"));
    let run = on_socket(&agent.socket(), &["vm", "start", "no-address"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, "no-address: running (no address yet)\n"));
}

#[test]
fn delete_removes_all_that_it_can_and_reports_the_rest() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "web-2"]);
    let run = on_socket(&agent.socket(), &["vm", "delete", "--yes", "web-1", "ghost", "web-2"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(run.stdout, "web-1: deleted\nweb-2: deleted\n");
    assert!(run.stderr.contains("there is no VM ghost"), "{run:?}");
    assert_eq!(agent.state.lock().unwrap().vms.len(), 0);
}

#[test]
fn nothing_is_deleted_without_a_yes_when_nobody_can_be_asked() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1"]);
    let run = on_socket(&agent.socket(), &["vm", "delete", "web-1"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("--yes"), "{run:?}");
    assert!(agent.status_of("web-1").is_some());
}

#[test]
fn status_shows_what_the_vm_takes_and_moves_once_it_does() {
    let agent = FakeAgent::on_socket().with_vms(&["web-1", "traffic"]);
    let quiet = on_socket(&agent.socket(), &["vm", "status", "web-1"]).stdout;
    assert!(!quiet.contains("traffic") && !quiet.contains("disk used"), "{quiet}");
    let busy = on_socket(&agent.socket(), &["vm", "status", "traffic"]).stdout;
    for line in ["disk used    1.5 GiB on the host", "net traffic  2 KiB received, 0 B sent"] {
        assert!(busy.contains(line), "{line} in {busy}");
    }
    assert!(!busy.contains("disk traffic"), "{busy}");
    let json = on_socket(&agent.socket(), &["vm", "status", "traffic", "-o", "json"]).json();
    assert_eq!((&json["net_rx_bytes"], &json["disk_read_bytes"]), (&2048.into(), &0.into()));
}
