//! VMs on agents. Invariant: a create carries a request id, so that repeating it makes no second VM.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ghost_api::commander::{CREATE_LIMIT, DELETE_LIMIT};
use ghost_proto::admin::{PlaceVmRequest, RemoveVmRequest};
use ghost_proto::agentpb::CreateVmRequest;
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::{Context, dial, inputs, output};

/// What the server takes besides: a little more than it allows itself, so that it is the one to say so.
const GRACE: Duration = Duration::from_secs(25);

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a VM on an agent.
    Create(Create),
    /// Delete a VM with all its data.
    Delete {
        /// The agent's name or UUID.
        #[arg(long, value_name = "AGENT")]
        agent: String,
        /// The VM's name or id.
        vm: String,
    },
}

/// Options of `vm create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// On this agent: name or UUID.
    #[arg(long, value_name = "AGENT", required_unless_present = "any", conflicts_with = "any")]
    agent: Option<String>,
    /// On any agent that is online, has the template and room for it: the one with most memory left.
    #[arg(long)]
    any: bool,
    /// 3 to 63 characters: letters, digits and hyphens; unique on the agent.
    #[arg(long)]
    name: String,
    /// A template of the agent's catalogue, such as debian-12.
    #[arg(long, value_name = "NAME")]
    template: String,
    /// Virtual CPUs, 1 to 32.
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    vcpu: i32,
    /// Memory in GiB, 1 to 128.
    #[arg(long, default_value = "1", value_name = "GIB", value_parser = inputs::parse_gib)]
    ram: i32,
    /// Disk in GiB, 10 to 1000.
    #[arg(long, default_value = "10", value_name = "GIB", value_parser = inputs::parse_gib)]
    disk: i32,
    /// A file of OpenSSH public keys for the template's default user; repeatable.
    #[arg(long, value_name = "FILE")]
    ssh_key: Vec<PathBuf>,
}

#[derive(Debug, Serialize)]
struct Placed {
    name: String,
    status: String,
    ip_address: String,
    vm_id: String,
    agent: String,
    agent_id: String,
    request_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// Does it.
pub(super) async fn run(command: Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Create(args) => create(args, context).await,
        Command::Delete { agent, vm } => delete(agent, vm, context).await,
    }
}

async fn create(args: Create, context: &Context) -> Result<(), Failure> {
    let request_id = context.identified.create_id.to_string();
    let mut keys = Vec::new();
    for path in &args.ssh_key {
        keys.extend(inputs::ssh_keys(path)?);
    }
    let vm = CreateVmRequest {
        name: args.name.clone(),
        vcpu: args.vcpu,
        ram_gb: args.ram,
        disk_gb: args.disk,
        template: args.template,
        ssh_authorized_keys: keys,
        request_id: request_id.clone(),
        ..CreateVmRequest::default()
    };
    let ask = PlaceVmRequest { agent: args.agent.unwrap_or_default(), vm: Some(vm) };
    let api = dial::dial(context).await?;
    let call = |mut client: dial::Client, ask| async move { client.place_vm(ask).await };
    let outcome = api.call(ask, CREATE_LIMIT + GRACE, call).await;
    let placed = outcome.map_err(|failure| match failure.exit {
        Exit::Unavailable | Exit::TimedOut => {
            failure.also(&format!("to repeat it safely add --request-id {request_id}"))
        }
        _ => failure,
    })?;
    let vm = placed.vm.unwrap_or_default();
    let placed = Placed {
        name: args.name,
        status: vm.status,
        ip_address: vm.ip_address,
        vm_id: vm.vm_id,
        agent: placed.agent_name,
        agent_id: placed.agent_id,
        request_id,
        error: vm.error,
    };
    context.output.print(&placed, draw)?;
    if placed.status == "error" {
        return Err(Failure::local(
            "the agent kept a VM that does not run; look at it with agentctl vm status",
        )
        .of_request(&context.identified.request_id));
    }
    Ok(())
}

async fn delete(agent: String, vm: String, context: &Context) -> Result<(), Failure> {
    let api = dial::dial(context).await?;
    let ask = RemoveVmRequest { agent: agent.clone(), vm: vm.clone() };
    let call = |mut client: dial::Client, ask| async move { client.remove_vm(ask).await };
    api.call(ask, DELETE_LIMIT + GRACE, call).await?;
    let done = serde_json::json!({ "agent": agent, "vm": vm, "deleted": true, "request_id": context.identified.request_id });
    context.output.print(&done, |_| format!("{}: deleted\n", output::printable(&vm)))
}

fn draw(placed: &Placed) -> String {
    let mut lines = vec![
        ("name", placed.name.clone()),
        ("status", placed.status.clone()),
        ("address", placed.ip_address.clone()),
        ("agent", placed.agent.clone()),
        ("id", placed.vm_id.clone()),
    ];
    if !placed.error.is_empty() {
        lines.push(("error", placed.error.clone()));
    }
    output::fields(&lines)
}
