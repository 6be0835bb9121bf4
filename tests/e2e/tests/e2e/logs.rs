//! The log of a real agent.

use std::path::Path;
use std::time::Duration;

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, mini};
use ghost_e2e::wait::eventually;
use rustix::process::Signal;
use serde_json::Value;

const SOON: Duration = Duration::from_secs(10);

fn lines(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Each line of a call has its id, from its steps to its end, also where the level that shows them was set at run time.
#[tokio::test]
async fn each_line_of_a_create_has_its_request_id_and_the_level_comes_and_goes() {
    let home = Home::new().await.unwrap().with("LOGGING__LEVEL", "info");
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let shown = ctl.json(&["log-level"]).await.unwrap();
    assert_eq!((&shown["level"], &shown["until"]), (&"info".into(), &"".into()));
    let set = ctl.json(&["log-level", "debug", "--for", "10m"]).await.unwrap();
    assert_eq!((&set["level"], &set["configured"]), (&"debug".into(), &"info".into()));
    assert!(set["until"].as_str().unwrap().ends_with('Z'), "{set}");

    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let mut request = tonic::Request::new(mini("e2e-logs"));
    request.metadata_mut().insert("x-request-id", "e2e-logs-1".parse().unwrap());
    let created = api.create_vm(request).await.unwrap().into_inner();
    let said = agent.until("\"rpc\":\"CreateVM\"", SOON).await.unwrap();
    assert!(said.contains("\"request_id\":\"e2e-logs-1\""), "{said}");
    let log: Vec<Value> =
        agent.log().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mine = |line: &&Value| line["vm_id"] == *created.vm_id && line["level"] == "DEBUG";
    let steps: Vec<_> = log.iter().filter(mine).collect();
    assert!(steps.iter().any(|line| line["request_id"] == "e2e-logs-1"), "{steps:?}");

    let back = ctl.json(&["log-level", "debug", "--for", "1s"]).await.unwrap();
    assert_eq!(back["level"], "debug");
    agent.until("is the configuration's again", SOON).await.unwrap();
    assert_eq!(ctl.json(&["log-level"]).await.unwrap()["level"], "info");
    let deleted = ctl.run(["vm", "delete", "e2e-logs", "--yes"]).await.unwrap();
    assert_eq!(deleted.code, Some(0), "{}", deleted.stderr);
    agent.stop().await.unwrap();
}

/// logrotate moves the file and sends SIGHUP: the agent goes on in a new one, and no line is lost between them.
#[tokio::test]
async fn a_file_that_is_moved_is_opened_anew_on_sighup() {
    let home = Home::new().await.unwrap();
    let file = home.path().join("log/agent.log");
    let home = home
        .with("LOGGING__LEVEL", "info")
        .with("LOGGING__OUTPUT", "both")
        .with("LOGGING__FILE", file.to_str().unwrap());
    let mut agent = home.start().await.unwrap();
    // The file has a writer of its own: what the console shows may still be on its way there.
    let has = async |text: &str| {
        let written = async || Ok(std::fs::read_to_string(&file)?.contains(text).then_some(()));
        eventually(text, SOON, written).await.unwrap();
    };
    has("\"ready\"").await;
    let moved = home.path().join("log/agent.log.moved");
    std::fs::rename(&file, &moved).unwrap();
    agent.signal(Signal::HUP).unwrap();
    agent.until("told by SIGHUP", SOON).await.unwrap();
    agent.terminate().await.unwrap();
    let (before, after) = (lines(&moved), lines(&file));
    assert!(before.iter().any(|line| line["message"] == "ready"), "{before:?}");
    let told = "told by SIGHUP to open the log file anew";
    assert!(after.iter().any(|line| line["message"] == told), "{after:?}");
    agent.until("\"stopped\"", SOON).await.unwrap();
    let mut console: Vec<Value> =
        agent.log().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut all = [before, after].concat();
    // Two that log at once may come in either order.
    for lines in [&mut all, &mut console] {
        lines.sort_by_key(Value::to_string);
    }
    assert_eq!(all, console);
}
