//! A real Prometheus, the distribution's, reads a real agent with the packaged rules and the dashboard's queries.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::ctl::Ctl;
use ghost_e2e::prometheus::{Prometheus, check_metrics, get, is_here};
use serde_json::Value;

const DASHBOARD: &str = include_str!("../../../../packaging/grafana/ghost-agent.json");
/// What the dashboard's variables stand for here.
const VARIABLES: [(&str, &str); 3] =
    [("$instance", "e2e"), ("$__rate_interval", "30s"), ("$__range", "1m")];

/// Where an agent serves its metrics, as its log says.
async fn http(agent: &Agent) -> SocketAddr {
    let line = agent.until(r#""http":"#, Duration::from_secs(30)).await.unwrap();
    let line: Value = serde_json::from_str(&line).unwrap();
    line["http"].as_str().unwrap().parse().unwrap()
}

/// The queries of the dashboard's panels with their titles.
fn queries() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let fill = |expression: &str| {
        VARIABLES
            .iter()
            .fold(expression.to_owned(), |text, (name, value)| text.replace(name, value))
    };
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let title = panel["title"].as_str().unwrap().to_owned();
            queries.push((title, fill(target["expr"].as_str().unwrap())));
        }
    }
    queries
}

#[tokio::test]
async fn prometheus_follows_a_vm_from_its_create_to_its_end() {
    if !is_here().await.unwrap() {
        return;
    }
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let ctl = home.ctl(&agent).unwrap();
    let metrics = http(&agent).await;
    let prometheus = Prometheus::start(metrics).await.unwrap();

    prometheus.until(r#"up{job="ghost-agent"}"#, 1.0).await.unwrap();
    prometheus.until(r#"ghost_vms_running{instance="e2e"}"#, 0.0).await.unwrap();
    let targets = prometheus.ask("/api/v1/targets").await.unwrap();
    let target = &targets["activeTargets"][0];
    assert_eq!((&target["health"], &target["lastError"]), (&"up".into(), &"".into()), "{targets}");

    let created = ctl.create("e2e-prometheus").await.unwrap();
    prometheus.until("ghost_vms_running", 1.0).await.unwrap();
    prometheus
        .until(r#"ghost_vm_info{vm_name="e2e-prometheus",status="running"}"#, 1.0)
        .await
        .unwrap();
    let seen = prometheus.query(r#"ghost_vm_info{vm_name="e2e-prometheus"}"#).await.unwrap();
    assert_eq!(seen[0]["metric"]["vm_id"], created["vm_id"], "{seen:?}");
    prometheus
        .until(r#"sum(ghost_vm_create_duration_seconds_count{outcome="ok"})"#, 1.0)
        .await
        .unwrap();
    prometheus.until("count(ghost_vm_create_step_duration_seconds_count > 0)", 8.0).await.unwrap();

    let (status, page) = get(metrics, "/metrics").await.unwrap();
    assert_eq!(status, 200, "{page}");
    check_metrics(&page).await.unwrap();
    every_query_is_answered(&prometheus).await;
    rules_are_evaluated(&prometheus).await;

    ctl.json(&["vm", "delete", "e2e-prometheus", "--yes"]).await.unwrap();
    prometheus.until("ghost_vms_running", 0.0).await.unwrap();
    prometheus.until_none(r#"{vm_name="e2e-prometheus"}"#).await.unwrap();
    prometheus.until("ghost_vms_deleted_total", 1.0).await.unwrap();

    // What Prometheus thinks of an agent that is gone.
    agent.stop().await.unwrap();
    prometheus.until(r#"up{job="ghost-agent"}"#, 0.0).await.unwrap();
    prometheus.until_none("ghost_vms_running").await.unwrap();
    prometheus
        .until(r#"ALERTS{alertname="GhostAgentDown",alertstate="pending"}"#, 1.0)
        .await
        .unwrap();
    home.ensure_nothing_left().await.unwrap();
}

/// Panels about what every agent with a VM has.
const NEVER_EMPTY: [&str; 18] = [
    "Agents that answer",
    "Ready",
    "libvirt",
    "VMs that run",
    "Up for",
    "Health checks",
    "Agents",
    "VMs by status",
    "CPU of each VM",
    "Memory of each VM on the host",
    "How long creates take",
    "Calls a second",
    "Breaker",
    "Memory",
    "CPU",
    "CPUs",
    "Disk of the pool",
    "Log",
];

/// Prometheus takes each query of the dashboard, and those that every agent has an answer to give something.
async fn every_query_is_answered(prometheus: &Prometheus) {
    let queries = queries();
    for (title, expression) in &queries {
        let taken = prometheus.query(expression).await;
        assert!(taken.is_ok(), "'{title}': {taken:?}");
    }
    for title in NEVER_EMPTY {
        let (_, expression) = queries.iter().find(|(of, _)| of == title).unwrap();
        prometheus.until_some(expression).await.unwrap();
    }
}

/// All rules are evaluated without an error, and no critical alert is about an agent that is well.
async fn rules_are_evaluated(prometheus: &Prometheus) {
    let rules = prometheus.rules().await.unwrap();
    assert!(rules.len() > 30, "{rules:?}");
    for rule in rules {
        assert_eq!((&rule["health"], rule.get("lastError")), (&"ok".into(), None), "{rule}");
    }
    let critical = prometheus.query(r#"ALERTS{severity="critical"}"#).await.unwrap();
    assert!(critical.is_empty(), "{critical:?}");
}

#[tokio::test]
async fn each_command_of_agentctl_in_the_runbook_exists() {
    let ctl = Ctl::over_socket(Path::new("unused"));
    let page = include_str!("../../../../docs/runbook.md");
    let mut commands: Vec<Vec<&str>> = page
        .split("agentctl ")
        .skip(1)
        .map(|after| {
            let words = after.split(|c: char| !(c.is_ascii_lowercase() || c == '-' || c == ' '));
            let words = words.take(1).flat_map(|line| line.split(' '));
            words.take_while(|word| !word.is_empty() && !word.starts_with('-')).collect()
        })
        .filter(|words: &Vec<&str>| !words.is_empty())
        .collect();
    commands.sort_unstable();
    commands.dedup();
    assert!(commands.len() > 10, "{commands:?}");
    for words in commands {
        let ended = ctl.run(words.iter().copied().chain(["--help"])).await.unwrap();
        assert_eq!(ended.code, Some(0), "agentctl {words:?}: {}", ended.stderr);
    }
}
