//! One request by its id, from agentctl to the guest's domain and back.

use std::time::Duration;

use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::ctl::Ctl;
use ghost_e2e::libvirt::Libvirt;
use ghost_e2e::plane::Plane;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::{VmEvent, WatchVMsRequest};
use serde_json::Value;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// Longest wait for what has happened.
const SOON: Duration = Duration::from_secs(10);

const CREATE: [&str; 5] = ["vm", "create", "e2e-traced", "--template", "mini"];

/// The lines of the agent's log with that id.
fn lines(agent: &Agent, id: &str) -> Vec<String> {
    agent.log().into_iter().filter(|line| line.contains(id)).collect()
}

async fn next(events: &mut tonic::Streaming<VmEvent>) -> VmEvent {
    tokio::time::timeout(SOON, events.message()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn a_create_is_found_by_its_id_in_log_event_ledger_domain_and_error() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let watch = home.api(&agent).await.unwrap().watch_v_ms(WatchVMsRequest::default()).await;
    let mut events = watch.unwrap().into_inner();
    let ctl = home.ctl(&agent).unwrap().with_variable("TRACEPARENT", PARENT);
    let created = ctl.json(&[&CREATE[..], &["--request-id", "e2e-r-1"]].concat()).await.unwrap();
    let vm_id = created["vm_id"].as_str().unwrap();

    let logged = lines(&agent, "e2e-r-1");
    assert!(logged.iter().any(|line| line.contains("done") && line.contains(vm_id)), "{logged:?}");
    assert!(logged.iter().all(|line| line.contains(TRACE)), "{logged:?}");
    // What was done for it elsewhere: the image's fetch, and what libvirt told meanwhile.
    for words in ["fetching a base image", "power changed"] {
        assert!(logged.iter().any(|line| line.contains(words)), "{words}: {logged:?}");
    }

    assert_eq!(next(&mut events).await.kind, "synced");
    loop {
        let event = next(&mut events).await;
        assert_eq!((event.request_id.as_str(), event.traceparent.as_str()), ("e2e-r-1", PARENT));
        if event.vm.unwrap().status == "running" {
            break;
        }
    }

    let record = home.path().join("state/vms").join(format!("{vm_id}.json"));
    let record = std::fs::read_to_string(record).unwrap();
    assert!(record.contains("e2e-r-1") && record.contains(PARENT), "{record}");
    let xml = Libvirt::of_the_host().virsh(&["dumpxml", vm_id]).await.unwrap();
    assert!(
        xml.contains("request-id='e2e-r-1'") || xml.contains("request-id=\"e2e-r-1\""),
        "{xml}"
    );
    assert!(xml.contains(TRACE), "{xml}");

    let again = ["vm", "create", "e2e-traced", "--template", "mini", "-o", "json"];
    let refused = ctl.run([&again[..], &["--request-id", "e2e-r-2"]].concat()).await.unwrap();
    assert_eq!(refused.code, Some(5));
    let error: Value = serde_json::from_str(&refused.stderr).unwrap();
    assert_eq!(error["error"]["request_id"], "e2e-r-2");
    assert_eq!(error["error"]["metadata"]["request_id"], "e2e-r-2");
    assert_eq!(error["error"]["metadata"]["trace_id"], TRACE);
    let mut logged = lines(&agent, "e2e-r-2");
    // Its steps.
    logged.retain(|line| !line.contains("\"level\":\"DEBUG\""));
    assert_eq!(logged.len(), 1, "one line a call: {logged:?}");

    ctl.json(&["vm", "delete", "e2e-traced", "--yes"]).await.unwrap();
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn the_control_plane_keeps_which_command_caused_which_event() {
    let plane = Plane::start(1).await.unwrap();
    let home = plane.home().await.unwrap();
    let agent = home.start().await.unwrap();
    plane.agent_is("online").await.unwrap();
    let placing = ["vm", "create", "--any", "--name", "e2e-placed", "--template", "mini"];
    let placing = [&placing[..], &["--request-id", "e2e-place"]].concat();
    plane.traced(PARENT, &placing).await.unwrap();
    for log in [lines(&agent, "e2e-place"), plane.log().lines().map(str::to_owned).collect()] {
        let line = log.iter().find(|line| line.contains("e2e-place") && line.contains("done"));
        let line = line.unwrap_or_else(|| panic!("no end of the create in {log:?}"));
        assert!(line.contains("request_id") && line.contains(TRACE), "{line}");
    }
    let removing = ["vm", "delete", "--agent", "e2e", "e2e-placed", "--request-id", "e2e-remove"];
    plane.json(&removing).await.unwrap();
    let removed = lines(&agent, "e2e-remove");
    assert!(removed.iter().any(|line| line.contains("done")), "{removed:?}");
    let ctl = Ctl::over_socket(&home.socket());
    let run = async |args: &[&str], id| {
        ctl.json(&[args, &["--request-id", id]].concat()).await.unwrap();
    };
    run(&CREATE, "e2e-create").await;
    run(&["vm", "stop", "e2e-traced", "--force"], "e2e-stop").await;
    run(&["vm", "delete", "e2e-traced", "--yes"], "e2e-delete").await;
    plane.heard("e2e-traced", &["stopped", "deleting", "deleted"]).await.unwrap();
    let told = eventually("the events of the VM", SOON, async || {
        let events = plane.json(&["events"]).await?;
        let of = |event: &Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let mut told: Vec<(String, String)> = events
            .as_array()
            .into_iter()
            .flatten()
            .filter(|event| event["vm_name"] == "e2e-traced")
            .map(|event| (of(event, "status"), of(event, "request_id")))
            .collect();
        told.dedup();
        Ok(told.last().is_some_and(|(status, _)| status == "deleted").then_some(told))
    });
    let expected = [
        ("creating", "e2e-create"),
        ("running", "e2e-create"),
        ("stopped", "e2e-stop"),
        ("deleting", "e2e-delete"),
        ("deleted", "e2e-delete"),
    ];
    assert_eq!(told.await.unwrap(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
    agent.stop().await.unwrap();
}
