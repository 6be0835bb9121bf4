//! Is it well? Over HTTP, over gRPC and in the command line the same.

use std::time::Duration;

use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client;
use ghost_e2e::ctl::Ctl;
use ghost_e2e::plane::Plane;
use ghost_e2e::wait::eventually;
use ghost_e2e::web;
use serde_json::Value;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

/// Longest until the health has followed.
const FOLLOWS: Duration = Duration::from_secs(60);

async fn health(agent: &Agent) -> (u16, Value) {
    let page = web::get(agent, "/healthz").await.unwrap();
    (page.status, page.json().unwrap())
}

/// Waits until that check has that status, and gives the whole.
async fn becomes(agent: &Agent, check: &str, status: &str) -> (u16, Value) {
    let what = format!("{check} {status}");
    let found = eventually(&what, FOLLOWS, async || {
        let (code, health) = health(agent).await;
        Ok((health["checks"][check]["status"] == status).then_some((code, health)))
    });
    found.await.unwrap()
}

#[tokio::test]
async fn an_agent_with_a_vm_is_ready_and_tells_what_it_costs_wherever_it_is_asked() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    ctl.create("e2e-health").await.unwrap();

    let (code, health) = becomes(&agent, "network", "up").await;
    assert_eq!(code, 200, "{health}");
    // The suite's guests are emulated: that, and nothing else, is worth a word.
    assert_eq!(health["status"], "degraded", "{health}");
    for (name, check) in health["checks"].as_object().unwrap() {
        let expected = if name == "acceleration" { "degraded" } else { "up" };
        assert_eq!(check["status"], expected, "{name}: {health}");
    }
    let running = eventually("the VM among the numbers", FOLLOWS, async || {
        let page = web::get(&agent, "/healthz").await?.json()?;
        Ok((page["metrics"]["vms_running"] == 1).then_some(page))
    });
    let numbers = running.await.unwrap()["metrics"].clone();
    assert!(numbers["memory_mb"].as_f64().unwrap() > 1.0, "{numbers}");
    assert!(numbers["threads"].as_u64().unwrap() > 1, "{numbers}");

    for (path, body) in [("/livez", "OK\n"), ("/readyz", "READY\n")] {
        let page = web::get(&agent, path).await.unwrap();
        assert_eq!((page.status, page.body.as_str()), (200, body), "{path}");
    }
    let operator = home.certs.operator();
    let channel = client::channel(agent.address().unwrap(), &home.certs, &operator).await.unwrap();
    for service in ["", "agentpb.AgentService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel.clone()).check(request).await.unwrap();
        assert_eq!(answer.into_inner().status(), ServingStatus::Serving, "'{service}'");
    }

    let local = Ctl::over_socket(&home.socket());
    let screen = local.run(["status"]).await.unwrap();
    assert_eq!(screen.code, Some(0), "{screen:?}");
    for words in ["degraded for ", "acceleration", "  e2e-health  running", "memory  VMs use "] {
        assert!(screen.stdout.contains(words), "{words}: {}", screen.stdout);
    }
    ctl.json(&["vm", "delete", "e2e-health", "--yes"]).await.unwrap();
    agent.stop().await.unwrap();
    assert_eq!(local.run(["status"]).await.unwrap().code, Some(7), "nobody is there");
    home.ensure_nothing_left().await.unwrap();
}

#[tokio::test]
async fn a_control_plane_that_is_away_leaves_the_agent_ready() {
    let plane = Plane::start(1).await.unwrap();
    let home = plane.home().await.unwrap();
    let agent = home.start().await.unwrap();
    plane.agent_is("online").await.unwrap();
    becomes(&agent, "api", "up").await;

    plane.freeze().unwrap();
    let (code, health) = becomes(&agent, "api", "degraded").await;
    assert_eq!((code, &health["status"]), (200, &"degraded".into()), "{health}");
    assert!(health["checks"]["api"]["remedy"].is_string(), "{health}");
    assert_eq!(web::get(&agent, "/readyz").await.unwrap().status, 200);

    plane.thaw().unwrap();
    becomes(&agent, "api", "up").await;
    agent.stop().await.unwrap();
}
