//! The whole circle: a control plane, an agent that enrols, a VM that is placed.

use ghost_e2e::ctl::Ctl;
use ghost_e2e::host::answers;
use ghost_e2e::plane::Plane;

/// The partition is a control plane that is stopped: connections stay, and nobody answers.
#[tokio::test]
async fn an_agent_enrols_registers_runs_a_placed_vm_and_outlives_a_partition() {
    let plane = Plane::start(1).await.unwrap();
    let home = plane.home().await.unwrap();
    let agent = home.start().await.unwrap();
    let known = plane.agent_is("online").await.unwrap();
    assert_eq!(known["name"], "e2e");
    assert!(known["templates"].to_string().contains("mini"), "{known}");

    let placed = plane
        .json(&["vm", "create", "--any", "--name", "e2e-placed", "--template", "mini"])
        .await
        .unwrap();
    assert_eq!(placed["status"], "running");
    assert!(answers(placed["ip_address"].as_str().unwrap()).await.unwrap());
    plane.heard("e2e-placed", &["creating", "running"]).await.unwrap();

    plane.freeze().unwrap();
    let ctl = Ctl::over_socket(&home.socket());
    ctl.json(&["vm", "stop", "e2e-placed", "--force"]).await.unwrap();
    ctl.json(&["vm", "start", "e2e-placed"]).await.unwrap();
    plane.thaw().unwrap();
    plane.heard("e2e-placed", &["running", "stopped", "running"]).await.unwrap();
    plane.agent_is("online").await.unwrap();

    plane.json(&["vm", "delete", "--agent", "e2e", "e2e-placed"]).await.unwrap();
    plane.heard("e2e-placed", &["deleting", "deleted"]).await.unwrap();
    agent.stop().await.unwrap();
    plane.agent_is("draining").await.unwrap();
    home.ensure_nothing_left().await.unwrap();

    // The certificate is there: a key that was used is not needed again.
    let agent = home.start().await.unwrap();
    plane.agent_is("online").await.unwrap();
    agent.stop().await.unwrap();
}
