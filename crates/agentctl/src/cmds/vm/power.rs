//! Starting and stopping; both change nothing when the VM is already there.

use clap::Args;
use ghost_proto::agentpb::{StartVmRequest, StopVmRequest};
use serde::Serialize;

use super::{START_LIMIT, STOP_LIMIT};
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;
use crate::progress::Progress;

/// Options of `vm start`.
#[derive(Debug, Args)]
pub(crate) struct Start {
    /// The VM's name or id.
    vm: String,
}

/// Options of `vm stop`.
#[derive(Debug, Args)]
pub(crate) struct Stop {
    /// The VM's name or id.
    vm: String,
    /// Cut the power at once instead of asking the guest; it may lose unsaved data.
    #[arg(long)]
    force: bool,
}

/// `error` holds what the agent has to say about a call that succeeded.
#[derive(Debug, Serialize)]
struct Power {
    vm: String,
    status: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
}

/// Starts the VM.
pub(super) async fn start(args: Start, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let ask = StartVmRequest { vm_id: args.vm.clone() };
    let call =
        agent.call(ask, START_LIMIT, |mut client, ask| async move { client.start_vm(ask).await });
    let answer = Progress::around(&format!("starting {}", args.vm), call).await?;
    finish(Power { vm: args.vm, status: answer.status, error: answer.error }, global)
}

/// Stops the VM.
pub(super) async fn stop(args: Stop, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let ask = StopVmRequest { vm_id: args.vm.clone(), force: args.force };
    let call =
        agent.call(ask, STOP_LIMIT, |mut client, ask| async move { client.stop_vm(ask).await });
    let answer = Progress::around(&format!("stopping {}", args.vm), call).await?;
    finish(Power { vm: args.vm, status: answer.status, error: answer.error }, global)
}

fn finish(power: Power, global: &Global) -> Result<Exit, Failure> {
    global.output.print(&power, |power| {
        let note = if power.error.is_empty() {
            String::new()
        } else {
            format!(" ({})", output::printable(&power.error))
        };
        format!("{}: {}{note}\n", output::printable(&power.vm), output::printable(&power.status))
    })?;
    Ok(if power.status == "error" { Exit::Failed } else { Exit::Done })
}
