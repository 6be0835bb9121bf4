//! Starting, stopping, dying, hanging.

use ghost_e2e::systemd_host::{SystemdHost, UNIT, field};

use super::{health, started};

#[tokio::test]
async fn a_start_returns_when_the_doors_are_open_with_libvirt_away_and_systemd_knows_the_health() {
    let host = started().await;
    // Nothing is waited for here: the first word is answered.
    let status = host.run(&["agentctl", "-o", "json", "status"]).await.unwrap();
    assert_eq!(status.status.code(), Some(1), "unhealthy, not away: {status:?}");
    let health = health(&host).await;
    assert_eq!(health["checks"]["libvirt"]["status"], "down", "{health}");
    assert_eq!(host.property("ActiveState").await.unwrap(), "active");
    assert_eq!(host.property("SubState").await.unwrap(), "running");
    let told = host.entry(&["-u", UNIT, "-p", "err"]).await.unwrap();
    assert!(
        field(&told, "MESSAGE").contains("start it with: systemctl start libvirtd"),
        "{told:?}"
    );
    let away =
        format!("unhealthy: libvirt: {}", health["checks"]["libvirt"]["message"].as_str().unwrap());
    host.until("StatusText", &away).await.unwrap();
}

#[tokio::test]
async fn a_start_is_not_over_before_the_agent_says_so() {
    let host = SystemdHost::with_agent().await.unwrap();
    let stopped = "ExecStart=\nExecStart=/bin/bash -c 'kill -STOP $$$$; exec /usr/local/bin/ghost-agent --config /etc/ghost/agent.yaml'";
    host.drop_in("held", stopped).await.unwrap();
    host.shell("systemctl start --no-block ghost-agent").await.unwrap();
    // The shell stands still just before it becomes the agent.
    let state = "ps -o stat= -p $(systemctl show --property=MainPID --value ghost-agent)";
    let still = format!("until {state} | grep -q T; do :; done");
    host.shell(&still).await.unwrap();
    assert_eq!(host.property("ActiveState").await.unwrap(), "activating");
    host.shell("systemctl kill --kill-whom=main -s CONT ghost-agent").await.unwrap();
    host.until("ActiveState", "active").await.unwrap();
    assert!(host.run(&["test", "-S", "/run/ghost/agent.sock"]).await.unwrap().status.success());
}

#[tokio::test]
async fn a_refused_configuration_is_told_as_an_error_and_not_tried_again() {
    let host = SystemdHost::with_agent().await.unwrap();
    host.setting("LOGGING__LEVEL", "silly").await.unwrap();
    assert!(!host.start().await.unwrap());
    assert_eq!(host.property("ExecMainStatus").await.unwrap(), "78");
    // What is to be started again is "activating", not "failed".
    assert_eq!(host.property("ActiveState").await.unwrap(), "failed");
    assert_eq!(host.property("NRestarts").await.unwrap(), "0");
    let told = host.journal(&["-t", "ghost-agent", "-p", "err"]).await.unwrap();
    let told: Vec<_> = told.iter().map(|entry| field(entry, "MESSAGE")).collect();
    assert!(told.iter().any(|line| line.contains("GHOST_LOGGING__LEVEL: \"silly\"")), "{told:?}");
}

#[tokio::test]
async fn what_keeps_the_agent_from_starting_is_told_once_and_it_is_tried_again() {
    let host = SystemdHost::with_agent().await.unwrap();
    host.setting("METRICS__LISTEN_ADDR", "192.0.2.1:9091").await.unwrap();
    assert!(!host.start().await.unwrap());
    assert_eq!(host.property("ExecMainStatus").await.unwrap(), "1");
    assert_eq!(host.property("ActiveState").await.unwrap(), "activating");
    host.shell("systemctl stop ghost-agent").await.unwrap();
    let told = host.journal(&["-t", "ghost-agent"]).await.unwrap();
    let told: Vec<_> = told.iter().map(|entry| field(entry, "MESSAGE")).collect();
    assert_eq!(
        told.iter().filter(|line| line.contains("cannot listen there")).count(),
        1,
        "{told:?}"
    );
}

#[tokio::test]
async fn a_killed_agent_is_started_anew_a_hangup_does_not_end_it_and_a_stop_ends_it_well() {
    let host = started().await;
    let first = host.property("MainPID").await.unwrap();
    host.shell("kill -KILL $(systemctl show --property=MainPID --value ghost-agent)")
        .await
        .unwrap();
    host.until("NRestarts", "1").await.unwrap();
    host.until("ActiveState", "active").await.unwrap();
    let second = host.property("MainPID").await.unwrap();
    assert_ne!(first, second);

    host.shell("systemctl kill -s HUP ghost-agent").await.unwrap();
    host.entry(&[
        "-u",
        UNIT,
        &format!("_PID={second}"),
        "MESSAGE=told by SIGHUP to open the log file anew",
    ])
    .await
    .unwrap();
    assert_eq!(host.property("MainPID").await.unwrap(), second);

    host.shell("systemctl stop ghost-agent").await.unwrap();
    for (name, value) in
        [("ActiveState", "inactive"), ("Result", "success"), ("ExecMainStatus", "0")]
    {
        assert_eq!(host.property(name).await.unwrap(), value, "{name}");
    }
    let said = host.journal(&["-u", UNIT, &format!("_PID={second}")]).await.unwrap();
    assert_eq!(field(said.last().unwrap(), "MESSAGE"), "stopped");
}

#[tokio::test]
async fn an_agent_that_hangs_is_killed_by_the_watchdog_and_started_anew() {
    let host = SystemdHost::with_agent().await.unwrap();
    // The packaged 30 s and 5 s in less of a test's time.
    assert!(
        host.shell("cat /etc/systemd/system/ghost-agent.service")
            .await
            .unwrap()
            .contains("WatchdogSec=30s")
    );
    host.drop_in("hasty", "WatchdogSec=2s\nRestartSec=100ms").await.unwrap();
    assert!(host.start().await.unwrap());
    host.shell("systemctl kill --kill-whom=main -s STOP ghost-agent").await.unwrap();
    host.until("NRestarts", "1").await.unwrap();
    host.until("ActiveState", "active").await.unwrap();
    let told =
        host.journal(&["_PID=1", "-p", "err", &format!("UNIT={UNIT}.service")]).await.unwrap();
    assert!(
        told.iter().any(|entry| field(entry, "MESSAGE").contains("Watchdog timeout")),
        "{told:?}"
    );
    assert!(health(&host).await["checks"].is_object());
}
