//! What the health says of a libvirtd that dies or hangs, and how soon it answers.

use std::time::Duration;

use ghost_e2e::client;
use ghost_e2e::ctl::Ctl;
use ghost_e2e::wait::eventually;
use ghost_e2e::web::{self, Page};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use crate::stage::{RECONNECT, Stage};

/// Longest answer to a probe, whatever libvirt does.
const PROBE: Duration = Duration::from_millis(50);

/// The answer, which must come at once: two of three, for the host has other work.
async fn probe(stage: &Stage, path: &str) -> Page {
    let mut slow = 0;
    loop {
        let page = web::get(&stage.agent, path).await.unwrap();
        if page.took < PROBE {
            return page;
        }
        slow += 1;
        assert!(slow < 3, "{path} took {:?}", page.took);
    }
}

/// Waits until `/readyz` has that status, with every probe on the way answered at once, and gives `/healthz`.
async fn until_ready_is(stage: &Stage, status: u16) -> Page {
    let what = format!("/readyz {status}");
    let turned = eventually(&what, RECONNECT, async || {
        assert_eq!(probe(stage, "/livez").await.status, 200);
        probe(stage, "/healthz").await;
        Ok((probe(stage, "/readyz").await.status == status).then_some(()))
    });
    turned.await.unwrap();
    let what = format!("/healthz {status}");
    let health = eventually(&what, RECONNECT, async || {
        let page = probe(stage, "/healthz").await;
        Ok((page.status == status).then_some(page))
    });
    health.await.unwrap()
}

async fn serving(stage: &Stage) -> ServingStatus {
    let (address, certs) = (stage.agent.address().unwrap(), &stage.home.certs);
    let channel = client::channel(address, certs, &certs.operator()).await.unwrap();
    let request = HealthCheckRequest { service: "agentpb.AgentService".to_owned() };
    HealthClient::new(channel).check(request).await.unwrap().into_inner().status()
}

/// Fault: libvirtd is killed, and comes back. Promise: 8, 10. Result: `/healthz` and `/readyz` answer 503 with cause and
/// remedy, `/livez` 200, each within 50 ms; `agentctl status` says what to do; all is well again by itself.
#[tokio::test]
async fn health_while_libvirtd_is_dead() {
    let stage = Stage::with_blank_vms().await;
    until_ready_is(&stage, 200).await;
    assert_eq!(serving(&stage).await, ServingStatus::Serving);

    stage.lab.kill_libvirtd().await.unwrap();
    let page = until_ready_is(&stage, 503).await;
    let health = page.json().unwrap();
    assert_eq!(health["status"], "unhealthy", "{health}");
    let libvirt = &health["checks"]["libvirt"];
    assert_eq!(libvirt["status"], "down", "{health}");
    assert!(libvirt["remedy"].as_str().unwrap().contains("systemctl start libvirtd"), "{health}");
    assert_eq!(health["checks"]["ledger"]["status"], "up", "{health}");
    let why = probe(&stage, "/readyz").await.body;
    assert!(why.starts_with("NOT READY: libvirt is away"), "{why}");
    assert_eq!(serving(&stage).await, ServingStatus::NotServing);
    let screen = Ctl::over_socket(&stage.home.socket()).run(["status"]).await.unwrap();
    assert_eq!(screen.code, Some(1), "{screen:?}");
    assert!(screen.stdout.contains("start it: systemctl start libvirtd"), "{}", screen.stdout);

    stage.lab.start_libvirtd().await.unwrap();
    let health = until_ready_is(&stage, 200).await.json().unwrap();
    assert_ne!(health["status"], "unhealthy", "{health}");
    assert_eq!(serving(&stage).await, ServingStatus::Serving);
    stage.stop().await;
}

/// Fault: libvirtd hangs (SIGSTOP), and runs on. Promise: 7, 8. Result: every probe is answered within 50 ms all the time,
/// `/readyz` says 503 once libvirt does not answer, and 200 once it does again.
#[tokio::test]
async fn health_while_libvirtd_hangs() {
    let stage = Stage::with_blank_vms().await;
    until_ready_is(&stage, 200).await;
    stage.lab.freeze_libvirtd().await.unwrap();
    let health = until_ready_is(&stage, 503).await.json().unwrap();
    let libvirt = &health["checks"]["libvirt"];
    assert_eq!(libvirt["status"], "down", "{health}");
    assert!(libvirt["remedy"].as_str().unwrap().contains("systemctl restart libvirtd"), "{health}");
    stage.lab.thaw_libvirtd().await.unwrap();
    until_ready_is(&stage, 200).await;
    stage.stop().await;
}
