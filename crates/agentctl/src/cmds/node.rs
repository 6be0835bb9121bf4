//! The host of the agent.

mod picture;

use ghost_proto::agentpb::{GetNodeInfoRequest, GetNodeInfoResponse, Resource};
use serde::Serialize;

use super::vm::READ_LIMIT;
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;

/// The host as documents show it.
#[derive(Debug, Serialize)]
struct Node {
    agent_id: String,
    agent_name: String,
    version: String,
    architecture: String,
    acceleration: String,
    /// Logical CPUs.
    cpu: Option<Amounts>,
    /// Bytes.
    ram: Option<Amounts>,
    /// Bytes.
    disk: Option<Amounts>,
    vms: i32,
    vms_running: i32,
}

/// One resource; the fields are those of the wire contract.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Amounts {
    pub(crate) total: f64,
    pub(crate) reserved: f64,
    pub(crate) allocated: f64,
    pub(crate) used: f64,
    pub(crate) available: f64,
    pub(crate) deficit: f64,
    pub(crate) overcommit: f64,
}

impl From<Resource> for Amounts {
    fn from(resource: Resource) -> Self {
        let Resource { total, reserved, allocated, used, available, deficit, overcommit } =
            resource;
        Self { total, reserved, allocated, used, available, deficit, overcommit }
    }
}

impl From<GetNodeInfoResponse> for Node {
    fn from(node: GetNodeInfoResponse) -> Self {
        Self {
            agent_id: node.agent_id,
            agent_name: node.agent_name,
            version: node.version,
            architecture: node.architecture,
            acceleration: node.acceleration,
            cpu: node.cpu.map(Amounts::from),
            ram: node.ram.map(Amounts::from),
            disk: node.disk.map(Amounts::from),
            vms: node.vms,
            vms_running: node.vms_running,
        }
    }
}

/// Prints the host.
pub(crate) async fn run(global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let ask = GetNodeInfoRequest {};
    let node = agent
        .call(ask, READ_LIMIT, |mut client, ask| async move { client.get_node_info(ask).await })
        .await?;
    global.output.print(&Node::from(node), |node| picture::draw(node, output::width()))?;
    Ok(Exit::Done)
}
