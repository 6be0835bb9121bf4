//! Between the wire's messages and the domain's values, both ways.

use ghost_core::application::{CreatedVm, NodeInfo, Page, PageRequest, StopMode, WatchEvent};
use ghost_core::domain::validation::Violations;
use ghost_core::domain::{
    AppError, Arch, BootMoment, NodeResources, Origin, ResourceInfo, VmRef, VmRequest, VmStatus,
    VmView,
};
use ghost_proto::agentpb;

use super::service::About;

pub(super) fn vm_request(message: agentpb::CreateVmRequest) -> VmRequest {
    VmRequest {
        name: message.name,
        vcpu: message.vcpu,
        ram_gb: message.ram_gb,
        disk_gb: message.disk_gb,
        template: message.template,
        metadata: message.metadata,
        ssh_authorized_keys: message.ssh_authorized_keys,
        user_data: message.user_data,
        request_id: message.request_id,
    }
}

pub(super) fn created(vm: CreatedVm) -> agentpb::CreateVmResponse {
    agentpb::CreateVmResponse {
        vm_id: vm.id.to_string(),
        ip_address: vm.address.map(|a| a.to_string()).unwrap_or_default(),
        status: vm.status.as_str().to_owned(),
        error: vm.failure.unwrap_or_default(),
    }
}

pub(super) fn vm_ref(vm_id: &str) -> Result<VmRef, AppError> {
    let mut wrong = Violations::default();
    let vm = wrong.check("vm_id", vm_id.parse());
    wrong.finish(vm)
}

pub(super) const fn stop_mode(force: bool) -> StopMode {
    if force { StopMode::Force } else { StopMode::Graceful }
}

pub(super) fn started(note: Option<String>) -> agentpb::StartVmResponse {
    let status = VmStatus::Running.as_str().to_owned();
    agentpb::StartVmResponse { status, error: note.unwrap_or_default() }
}

pub(super) fn stopped(note: Option<String>) -> agentpb::StopVmResponse {
    let status = VmStatus::Stopped.as_str().to_owned();
    agentpb::StopVmResponse { status, error: note.unwrap_or_default() }
}

pub(super) fn page_request(message: &agentpb::ListVMsRequest) -> Result<PageRequest, AppError> {
    PageRequest::parse(message.page_size, &message.page_token, &message.status)
}

pub(super) fn page(page: Page) -> agentpb::ListVMsResponse {
    let info = |vm: &std::sync::Arc<VmView>| agentpb::VmInfo {
        vm_id: vm.record.id.to_string(),
        name: vm.record.name.to_string(),
        status: vm.status.as_str().to_owned(),
        ip_address: address(vm),
        reason: vm.reason.clone().unwrap_or_default(),
    };
    agentpb::ListVMsResponse {
        vms: page.vms.iter().map(info).collect(),
        next_page_token: page.next,
    }
}

pub(super) fn vm_status(vm: &VmView, now: BootMoment) -> agentpb::GetVmStatusResponse {
    let shape = vm.record.shape;
    agentpb::GetVmStatusResponse {
        vm_id: vm.record.id.to_string(),
        name: vm.record.name.to_string(),
        status: vm.status.as_str().to_owned(),
        vcpu: saturating(shape.vcpus),
        ram_gb: saturating(shape.ram.get()),
        disk_gb: saturating(shape.disk.get()),
        ip_address: address(vm),
        uptime_seconds: i64::try_from(vm.uptime(now).as_secs()).unwrap_or(i64::MAX),
        cpu_usage_percent: vm.cpu_percent,
        ram_usage_percent: vm.ram_percent,
        reason: vm.reason.clone().unwrap_or_default(),
        disk_used_bytes: bytes(vm.traffic.disk_used),
        net_rx_bytes: bytes(vm.traffic.net_rx),
        net_tx_bytes: bytes(vm.traffic.net_tx),
        disk_read_bytes: bytes(vm.traffic.disk_read),
        disk_written_bytes: bytes(vm.traffic.disk_written),
        host_ram_bytes: bytes(vm.traffic.host_ram),
    }
}

pub(super) fn node(info: &NodeInfo, about: &About) -> agentpb::GetNodeInfoResponse {
    let resource = |one: &ResourceInfo| agentpb::Resource {
        total: one.total,
        reserved: one.reserved,
        allocated: one.allocated,
        used: one.used,
        available: one.available,
        deficit: one.deficit,
        overcommit: one.overcommit,
    };
    let NodeResources { cpu, ram, disk } = &info.resources;
    let count = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    agentpb::GetNodeInfoResponse {
        agent_id: about.agent_id.to_string(),
        agent_name: about.name.clone(),
        version: crate::VERSION.to_owned(),
        architecture: Arch::HOST.as_str().to_owned(),
        acceleration: about.acceleration.to_owned(),
        cpu: Some(resource(cpu)),
        ram: Some(resource(ram)),
        disk: Some(resource(disk)),
        vms: count(info.vms),
        vms_running: count(info.running),
    }
}

pub(super) fn event(token: String, event: &WatchEvent, now: BootMoment) -> agentpb::VmEvent {
    let (kind, vm, origin) = match event {
        WatchEvent::State(view) => ("state", Some(vm_status(view, now)), None),
        WatchEvent::Synced => ("synced", None, None),
        WatchEvent::Changed(view, origin) => {
            ("changed", Some(vm_status(view, now)), origin.as_deref())
        }
        WatchEvent::Deleted(id, name, origin) => {
            let gone = agentpb::GetVmStatusResponse {
                vm_id: id.to_string(),
                name: name.to_string(),
                ..agentpb::GetVmStatusResponse::default()
            };
            ("deleted", Some(gone), origin.as_deref())
        }
    };
    let (request_id, traceparent) = told(origin);
    agentpb::VmEvent { resume_token: token, kind: kind.to_owned(), vm, request_id, traceparent }
}

/// The command's id and traceparent; empty where there is none.
pub(crate) fn told(origin: Option<&Origin>) -> (String, String) {
    let traceparent = origin.and_then(|origin| origin.traceparent.as_ref());
    let request_id = origin.map(|origin| origin.request_id.to_string());
    (request_id.unwrap_or_default(), traceparent.map(ToString::to_string).unwrap_or_default())
}

fn bytes(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

fn address(vm: &VmView) -> String {
    vm.record.address.map(|a| a.to_string()).unwrap_or_default()
}

fn saturating(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
