//! One VM in detail.

use clap::Args;
use ghost_proto::agentpb::{GetVmStatusRequest, GetVmStatusResponse};
use serde::Serialize;

use super::READ_LIMIT;
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;

/// Options of `vm status`.
#[derive(Debug, Args)]
pub(crate) struct VmStatus {
    /// The VM's name or id.
    vm: String,
}

/// A VM as documents show it.
#[derive(Debug, Serialize)]
pub(crate) struct Detail {
    vm_id: String,
    name: String,
    status: String,
    vcpu: i32,
    ram_gb: i32,
    disk_gb: i32,
    ip_address: String,
    uptime_seconds: i64,
    cpu_usage_percent: f32,
    ram_usage_percent: f32,
    host_ram_bytes: i64,
    disk_used_bytes: i64,
    disk_read_bytes: i64,
    disk_written_bytes: i64,
    net_rx_bytes: i64,
    net_tx_bytes: i64,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
}

impl From<GetVmStatusResponse> for Detail {
    fn from(vm: GetVmStatusResponse) -> Self {
        Self {
            vm_id: vm.vm_id,
            name: vm.name,
            status: vm.status,
            vcpu: vm.vcpu,
            ram_gb: vm.ram_gb,
            disk_gb: vm.disk_gb,
            ip_address: vm.ip_address,
            uptime_seconds: vm.uptime_seconds,
            cpu_usage_percent: vm.cpu_usage_percent,
            ram_usage_percent: vm.ram_usage_percent,
            host_ram_bytes: vm.host_ram_bytes,
            disk_used_bytes: vm.disk_used_bytes,
            disk_read_bytes: vm.disk_read_bytes,
            disk_written_bytes: vm.disk_written_bytes,
            net_rx_bytes: vm.net_rx_bytes,
            net_tx_bytes: vm.net_tx_bytes,
            reason: vm.reason,
        }
    }
}

/// Prints the VM.
pub(super) async fn run(args: VmStatus, global: &Global) -> Result<Exit, Failure> {
    let agent = connect::connect(global).await?;
    let ask = GetVmStatusRequest { vm_id: args.vm };
    let vm = agent
        .call(ask, READ_LIMIT, |mut client, ask| async move { client.get_vm_status(ask).await })
        .await?;
    global.output.print(&Detail::from(vm), draw)?;
    Ok(Exit::Done)
}

fn draw(vm: &Detail) -> String {
    let mut lines = vec![
        ("name", vm.name.clone()),
        ("status", vm.status.clone()),
        ("reason", vm.reason.clone()),
        ("address", if vm.ip_address.is_empty() { "-".to_owned() } else { vm.ip_address.clone() }),
        ("id", vm.vm_id.clone()),
        ("size", format!("{} vCPU, {} GiB memory, {} GiB disk", vm.vcpu, vm.ram_gb, vm.disk_gb)),
    ];
    if let Some(up) = u64::try_from(vm.uptime_seconds).ok().filter(|up| *up > 0) {
        lines.push(("up", output::duration(up)));
        lines.push((
            "used",
            format!("{:.1} % CPU, {:.1} % memory", vm.cpu_usage_percent, vm.ram_usage_percent),
        ));
    }
    lines.extend([
        ("host memory", amounts(&[(vm.host_ram_bytes, "taken")])),
        ("disk used", amounts(&[(vm.disk_used_bytes, "on the host")])),
        (
            "disk traffic",
            amounts(&[(vm.disk_read_bytes, "read"), (vm.disk_written_bytes, "written")]),
        ),
        ("net traffic", amounts(&[(vm.net_rx_bytes, "received"), (vm.net_tx_bytes, "sent")])),
    ]);
    lines.retain(|(_, text)| !text.is_empty());
    output::fields(&lines)
}

/// `1.5 MiB received, 0 B sent`, or nothing if all are 0 or less.
#[expect(clippy::cast_precision_loss, reason = "shown with one decimal")]
fn amounts(amounts: &[(i64, &str)]) -> String {
    if amounts.iter().all(|(bytes, _)| *bytes <= 0) {
        return String::new();
    }
    let say =
        |(bytes, what): &(i64, &str)| format!("{} {what}", output::bytes((*bytes).max(0) as f64));
    amounts.iter().map(say).collect::<Vec<_>>().join(", ")
}
