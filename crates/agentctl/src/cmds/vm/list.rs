//! Invariant: a list is complete: every page is fetched, or the command fails.

use std::collections::HashSet;

use clap::{Args, ValueEnum};
use ghost_proto::agentpb::ListVMsRequest;
use serde::Serialize;

use super::READ_LIMIT;
use crate::cli::Global;
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure};
use crate::output;

/// VMs asked for at a time.
const PAGE_SIZE: i32 = 100;

/// Options of `vm list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only VMs of this status.
    #[arg(long, value_enum)]
    status: Option<Status>,
}

/// The published spellings of a VM's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Status {
    Creating,
    Running,
    Stopped,
    Paused,
    Deleting,
    Error,
}

impl Status {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Running => "running",
            Self::Stopped => "stopped",
            Self::Paused => "paused",
            Self::Deleting => "deleting",
            Self::Error => "error",
        }
    }
}

/// A VM of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) status: String,
    pub(crate) ip_address: String,
    pub(crate) vm_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) reason: String,
}

/// Prints all VMs.
pub(super) async fn run(args: &List, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let rows = all(&agent, args.status.map_or("", Status::as_str)).await?;
    global.output.print(&rows, |rows| draw(rows))?;
    Ok(Exit::Done)
}

/// Every VM of that status; of any if it is empty.
pub(crate) async fn all(agent: &Agent, status: &str) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    let mut tokens = HashSet::new();
    let mut token = String::new();
    loop {
        let ask =
            ListVMsRequest { page_size: PAGE_SIZE, page_token: token, status: status.to_owned() };
        let page = agent
            .call(ask, READ_LIMIT, |mut client, ask| async move { client.list_v_ms(ask).await })
            .await?;
        rows.extend(page.vms.into_iter().map(|vm| Row {
            name: vm.name,
            status: vm.status,
            ip_address: vm.ip_address,
            vm_id: vm.vm_id,
            reason: vm.reason,
        }));
        token = page.next_page_token;
        if token.is_empty() {
            return Ok(rows);
        }
        if !tokens.insert(token.clone()) {
            return Err(Failure::local(format!("{} sent the same page twice", agent.target()))
                .remedy("upgrade the agent"));
        }
    }
}

/// The list for people, with the reasons beneath.
pub(super) fn draw(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let address = if row.ip_address.is_empty() { "-" } else { &row.ip_address };
            vec![row.name.clone(), row.status.clone(), address.to_owned(), row.vm_id.clone()]
        })
        .collect();
    let mut drawn = output::table(&["NAME", "STATUS", "ADDRESS", "ID"], &cells);
    for row in rows.iter().filter(|row| !row.reason.is_empty()) {
        drawn.push_str(&output::printable(&format!("{}: {}", row.name, row.reason)));
        drawn.push('\n');
    }
    drawn
}
