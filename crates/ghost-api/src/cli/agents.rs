//! The agents.

use clap::Subcommand;
use ghost_proto::admin::{Agent, ListAgentsRequest, RevokeAgentRequest};
use ghost_proto::controlplane::Amount;
use serde::Serialize;

use super::failure::Failure;
use super::{Context, dial, output};

/// A GiB in bytes.
const GIB: f64 = 1_073_741_824.0;

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Bar an agent for good: its certificate is worth nothing any more. Its VMs run on.
    Revoke {
        /// Name or UUID.
        agent: String,
    },
}

#[derive(Debug, Serialize)]
struct Row {
    id: String,
    name: String,
    status: String,
    reasons: Vec<String>,
    version: String,
    address: String,
    architecture: String,
    acceleration: String,
    cpus: Numbers,
    ram_bytes: Numbers,
    disk_bytes: Numbers,
    vms: u32,
    vms_running: u32,
    last_seen: String,
    templates: Vec<String>,
    templates_cached: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Numbers {
    total: f64,
    available: f64,
}

impl From<Option<Amount>> for Numbers {
    fn from(amount: Option<Amount>) -> Self {
        let Amount { total, available, .. } = amount.unwrap_or_default();
        Self { total, available }
    }
}

impl From<Agent> for Row {
    fn from(agent: Agent) -> Self {
        let capacity = agent.capacity.unwrap_or_default();
        Self {
            id: agent.agent_id,
            name: agent.name,
            status: agent.status,
            reasons: agent.reasons,
            version: agent.version,
            address: agent.address,
            architecture: agent.architecture,
            acceleration: agent.acceleration,
            cpus: capacity.cpu.into(),
            ram_bytes: capacity.ram.into(),
            disk_bytes: capacity.disk.into(),
            vms: agent.vms,
            vms_running: agent.vms_running,
            last_seen: output::time(agent.last_seen),
            templates: agent.templates,
            templates_cached: agent.templates_cached,
        }
    }
}

/// Lists all.
pub(super) async fn list(context: &Context) -> Result<(), Failure> {
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.list_agents(ask).await };
    let told = api.call(ListAgentsRequest {}, dial::LIMIT, call).await?;
    let rows: Vec<Row> = told.agents.into_iter().map(Row::from).collect();
    context.output.print(&rows, |rows| draw(rows))
}

/// Does it.
pub(super) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    let Command::Revoke { agent } = command;
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.revoke_agent(ask).await };
    api.call(RevokeAgentRequest { agent: agent.clone() }, dial::LIMIT, call).await?;
    let done = serde_json::json!({ "agent": agent, "revoked": true });
    context.output.print(&done, |_| format!("{}: revoked\n", output::printable(&agent)))
}

fn draw(rows: &[Row]) -> String {
    let of = |amount: &Numbers| format!("{:.0}/{:.0}", amount.available, amount.total);
    let gib = |amount: &Numbers| format!("{:.1}/{:.1}", amount.available / GIB, amount.total / GIB);
    let cells = |row: &Row| {
        vec![
            row.name.clone(),
            row.status.clone(),
            of(&row.cpus),
            gib(&row.ram_bytes),
            gib(&row.disk_bytes),
            format!("{}/{}", row.vms_running, row.vms),
            row.last_seen.clone(),
            row.address.clone(),
            row.id.clone(),
            row.reasons.join("; "),
        ]
    };
    let head = [
        "NAME",
        "STATUS",
        "CPUS FREE",
        "GIB RAM FREE",
        "GIB DISK FREE",
        "VMS UP",
        "LAST SEEN",
        "ADDRESS",
        "ID",
        "REASONS",
    ];
    output::table(&head, &rows.iter().map(cells).collect::<Vec<_>>())
}
