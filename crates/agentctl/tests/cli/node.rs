//! The host as a picture and as documents.

use ghost_proto::agentpb::{GetNodeInfoResponse, Resource};

use crate::fake_agent::FakeAgent;
use crate::run::on_socket;

const GIB: f64 = (1_u64 << 30) as f64;

fn resource(total: f64, reserved: f64, allocated: f64, used: f64) -> Resource {
    let left = total - reserved - allocated;
    Resource {
        total,
        reserved,
        allocated,
        used,
        available: left.max(0.0),
        deficit: (-left).max(0.0),
        overcommit: 1.0,
    }
}

fn agent() -> FakeAgent {
    let agent = FakeAgent::on_socket();
    agent.state.lock().unwrap().node = GetNodeInfoResponse {
        agent_id: "an-id".to_owned(),
        agent_name: "pc-7\u{1b}[2J".to_owned(),
        version: "0.1.0".to_owned(),
        architecture: "x86_64".to_owned(),
        acceleration: "kvm".to_owned(),
        cpu: Some(resource(16.0, 4.0, 6.0, 1.5)),
        ram: Some(resource(32.0 * GIB, 24.0 * GIB, 10.0 * GIB, 8.0 * GIB)),
        disk: Some(resource(500.0 * GIB, 50.0 * GIB, 20.0 * GIB, 3.5 * GIB)),
        vms: 3,
        vms_running: 2,
    };
    agent
}

#[test]
fn a_bar_and_its_numbers_stand_for_each_resource() {
    let agent = agent();
    let run = on_socket(&agent.socket(), &["node"]);
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{run:?}");
    let first = "pc-7\u{fffd}[2J runs agent 0.1.0 on x86_64, kvm; 3 VMs, 2 running\n\n";
    assert!(run.stdout.starts_with(first), "{run:?}");
    for part in [
        "CPU     [===============######++++++++++++++",
        "16: owner's 4, VMs' 6 (1.5 in use), free 6\n",
        "32 GiB: owner's 24 GiB, VMs' 10 GiB (8 GiB in use), free 0 B\n",
        "500 GiB: owner's 50 GiB, VMs' 20 GiB (3.5 GiB in use), free 430 GiB\n",
    ] {
        assert!(run.stdout.contains(part), "{part} in {}", run.stdout);
    }
    assert!(run.stdout.lines().all(|line| line.chars().count() <= 80), "{}", run.stdout);
    assert!(!run.stdout.contains('\u{1b}'), "no colours without a terminal: {run:?}");
}

#[test]
fn a_deficit_is_told_in_words_where_there_is_one() {
    let run = on_socket(&agent().socket(), &["node"]);
    let flat = run.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let words = "VMs hold 2 GiB more than the owner leaves them: they keep running";
    assert_eq!(flat.matches(words).count(), 1, "{}", run.stdout);
    assert_eq!(flat.matches("more than the owner leaves").count(), 1, "{}", run.stdout);
}

#[test]
fn documents_have_every_field() {
    let agent = agent();
    agent.state.lock().unwrap().age = Some(12);
    let run = on_socket(&agent.socket(), &["node", "-o", "json"]);
    assert_eq!(run.stderr, "as of 12 s ago: libvirt does not answer the agent\n");
    let json = run.json();
    assert_eq!((&json["agent_id"], &json["vms_running"]), (&"an-id".into(), &2.into()));
    assert_eq!(
        json["cpu"],
        serde_json::json!({"total": 16.0, "reserved": 4.0, "allocated": 6.0, "used": 1.5,
                           "available": 6.0, "deficit": 0.0, "overcommit": 1.0})
    );
    assert_eq!(json["ram"]["deficit"], 2.0 * GIB);
    let yaml = on_socket(&agent.socket(), &["node", "-o", "yaml"]).stdout;
    assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json);
}

#[test]
fn an_agent_that_says_nothing_of_a_resource_is_shown_so() {
    let agent = FakeAgent::on_socket();
    let run = on_socket(&agent.socket(), &["node"]);
    assert_eq!(run.stdout.matches("unknown").count(), 3, "{run:?}");
    assert!(on_socket(&agent.socket(), &["node", "-o", "json"]).json()["cpu"].is_null());
}
