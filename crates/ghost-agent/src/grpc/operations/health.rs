//! `GetHealth`: the snapshot on the wire.

use ghost_proto::agentpb::{GetHealthResponse, HealthCheck};
use jiff::Timestamp;

use crate::health::{Check, Health};

/// As the contract has it.
pub(super) fn told(health: &Health) -> GetHealthResponse {
    GetHealthResponse {
        status: health.status.as_str().to_owned(),
        version: health.version.to_owned(),
        timestamp: moment(health.timestamp),
        since: moment(health.since),
        started_at: moment(health.started_at),
        ready: health.ready,
        checks: health.checks.iter().map(check).collect(),
        metrics: health.metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
    }
}

fn check(check: &Check) -> HealthCheck {
    HealthCheck {
        name: check.name.to_owned(),
        status: check.status.as_str().to_owned(),
        message: check.message.clone(),
        remedy: check.remedy.clone(),
        since: moment(check.since),
        checked_at: moment(check.checked_at),
    }
}

/// RFC 3339, UTC, with milliseconds.
fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}
