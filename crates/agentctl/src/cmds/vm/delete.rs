//! Invariant: nothing is deleted that nobody agreed to: a person at a terminal is asked, a script
//! says `--yes`.

use std::time::Duration;

use clap::Args;
use ghost_proto::agentpb::DeleteVmRequest;
use serde::Serialize;

use super::STOP_LIMIT;
use crate::cli::Global;
use crate::confirm::{self, Consent, Doing};
use crate::connect::{self, Agent};
use crate::errors::{self, Exit, Failure};
use crate::output::{self, Format};
use crate::progress::Progress;

/// Options of `vm delete`.
#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// Names or ids.
    #[arg(required = true, value_name = "VM")]
    vms: Vec<String>,
    /// Do not ask; needed when there is no terminal.
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
}

#[derive(Debug, Serialize)]
struct Deleted {
    vm: String,
    deleted: bool,
}

/// Deletes each VM; the first failure decides the exit code, and the others are still deleted.
pub(super) async fn run(args: Delete, global: &Global) -> Result<Exit, Failure> {
    let question = format!("Delete {} with all data?", args.vms.join(", "));
    let doing = Doing { verb: "delete", done: "deleted", question: &question };
    confirm::agree(doing, Consent::of_flag(args.yes))?;
    let agent = connect::connect(global).await?;
    let mut outcome = Vec::with_capacity(args.vms.len());
    let mut exit = Exit::Done;
    for vm in args.vms {
        let failed = delete(&agent, &vm).await.err();
        outcome.push(Deleted { vm, deleted: failed.is_none() });
        if let Some(failure) = failed {
            errors::report(&failure, global.output);
            exit = if exit == Exit::Done { failure.exit } else { exit };
        }
    }
    if global.output != Format::Table || outcome.iter().any(|each| each.deleted) {
        global.output.print(&outcome, |outcome| draw(outcome))?;
    }
    Ok(exit)
}

async fn delete(agent: &Agent, vm: &str) -> Result<(), Failure> {
    let limit: Duration = STOP_LIMIT;
    let ask = DeleteVmRequest { vm_id: vm.to_owned() };
    let call = agent.call(ask, limit, |mut client, ask| async move { client.delete_vm(ask).await });
    let answer = Progress::around(&format!("deleting {vm}"), call).await?;
    if answer.success {
        return Ok(());
    }
    Err(Failure::local(format!("the agent did not delete {vm}: {}", answer.error))
        .remedy("look at journalctl -u ghost-agent"))
}

fn draw(outcome: &[Deleted]) -> String {
    outcome
        .iter()
        .filter(|each| each.deleted)
        .map(|each| format!("{}: deleted\n", output::printable(&each.vm)))
        .collect()
}
