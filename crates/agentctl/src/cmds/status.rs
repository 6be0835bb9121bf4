//! The one screen that an owner looks at: is it well, since when, what runs, what it costs, what is to be done.
//!
//! Invariant: what can be told is told: that the host's resources are not known, for one, does not hide why.

mod screen;

use std::collections::BTreeMap;

use ghost_proto::agentpb::{
    GetHealthRequest, GetHealthResponse, GetNodeInfoRequest, GetNodeInfoResponse,
};
use jiff::Timestamp;
use serde::Serialize;

use super::node::Amounts;
use super::vm::READ_LIMIT;
use super::vm::list::{self, Row};
use crate::cli::Global;
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure};
use crate::output;

/// What an owner fears first when the agent does not answer.
const GUESTS: &str = "VMs that run go on without it: virsh list";

/// All of it.
#[derive(Debug, Serialize)]
struct Report {
    /// `healthy`, `degraded` or `unhealthy`.
    status: String,
    since: String,
    ready: bool,
    version: String,
    started_at: String,
    timestamp: String,
    /// The worst first.
    checks: Vec<Check>,
    /// What the agent takes, and what runs.
    metrics: BTreeMap<String, f64>,
    /// Nothing if the agent could not tell.
    host: Option<Host>,
    vms: Vec<Row>,
}

/// One thing that is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: String,
    /// `up`, `degraded` or `down`.
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    message: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
    since: String,
    checked_at: String,
}

/// The host and its resources: logical CPUs, bytes.
#[derive(Debug, Serialize)]
struct Host {
    agent_name: String,
    acceleration: String,
    cpu: Option<Amounts>,
    ram: Option<Amounts>,
    disk: Option<Amounts>,
}

/// Prints it. Exit code 0 while VMs can be commanded, 1 if the agent is unhealthy.
pub(crate) async fn run(global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await.map_err(reassured)?;
    let report = report(&agent).await.map_err(reassured)?;
    let exit = match report.status.as_str() {
        "healthy" | "degraded" => Exit::Done,
        _ => Exit::Failed,
    };
    let now = Timestamp::now();
    global.output.print(&report, |report| screen::draw(report, now, output::width()))?;
    Ok(exit)
}

fn reassured(failure: Failure) -> Failure {
    if failure.may_pass() { failure.also(GUESTS) } else { failure }
}

async fn report(agent: &Agent) -> Result<Report, Failure> {
    let ask = GetHealthRequest {};
    let health = agent
        .operate(ask, READ_LIMIT, |mut client, ask| async move { client.get_health(ask).await })
        .await?;
    let ask = GetNodeInfoRequest {};
    let node = agent
        .call(ask, READ_LIMIT, |mut client, ask| async move { client.get_node_info(ask).await })
        .await;
    let host = match node {
        Ok(node) => Some(Host::from(node)),
        // libvirt, or its pool, was away since the agent started: the checks say which, and why.
        Err(failure) if failure.exit == Exit::Unavailable => None,
        Err(failure) => return Err(failure),
    };
    Ok(Report { host, vms: list::all(agent, "").await?, ..Report::from(health) })
}

impl From<GetHealthResponse> for Report {
    fn from(health: GetHealthResponse) -> Self {
        let checks = health.checks.into_iter().map(|check| Check {
            name: check.name,
            status: check.status,
            message: check.message,
            remedy: check.remedy,
            since: check.since,
            checked_at: check.checked_at,
        });
        Self {
            status: health.status,
            since: health.since,
            ready: health.ready,
            version: health.version,
            started_at: health.started_at,
            timestamp: health.timestamp,
            checks: checks.collect(),
            metrics: health.metrics.into_iter().collect(),
            host: None,
            vms: Vec::new(),
        }
    }
}

impl From<GetNodeInfoResponse> for Host {
    fn from(node: GetNodeInfoResponse) -> Self {
        Self {
            agent_name: node.agent_name,
            acceleration: node.acceleration,
            cpu: node.cpu.map(Amounts::from),
            ram: node.ram.map(Amounts::from),
            disk: node.disk.map(Amounts::from),
        }
    }
}
