//! The packaged unit under a real systemd with a real journald: what is promised of the service, of its log and of its sandbox.

mod documented;
mod journal;
mod sandbox;
mod service;

use ghost_e2e::systemd_host::SystemdHost;
use serde_json::Value;

/// A host whose agent runs.
async fn started() -> SystemdHost {
    let host = SystemdHost::with_agent().await.unwrap();
    assert!(
        host.start().await.unwrap(),
        "{}",
        host.shell("journalctl -b --no-pager").await.unwrap()
    );
    host
}

/// What the agent says of itself, without a second try.
async fn health(host: &SystemdHost) -> Value {
    let page = host.shell("curl -sS http://127.0.0.1:9091/healthz").await.unwrap();
    serde_json::from_str(&page).unwrap()
}
