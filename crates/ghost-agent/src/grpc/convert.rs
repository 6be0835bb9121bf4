//! Between the wire's messages and the domain's values, both ways.

use ghost_core::application::{CreatedVm, Page, PageRequest, StopMode};
use ghost_core::domain::validation::Violations;
use ghost_core::domain::{AppError, VmRef, VmRequest, VmStatus, VmView};
use ghost_proto::agentpb;
use jiff::Timestamp;

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
    };
    agentpb::ListVMsResponse {
        vms: page.vms.iter().map(info).collect(),
        next_page_token: page.next,
    }
}

pub(super) fn vm_status(vm: &VmView, now: Timestamp) -> agentpb::GetVmStatusResponse {
    let shape = vm.record.shape;
    agentpb::GetVmStatusResponse {
        vm_id: vm.record.id.to_string(),
        name: vm.record.name.to_string(),
        status: vm.status.as_str().to_owned(),
        vcpu: saturating(shape.vcpus),
        ram_gb: saturating(shape.ram.get()),
        disk_gb: saturating(shape.disk.get()),
        ip_address: address(vm),
        uptime_seconds: uptime(vm, now),
        cpu_usage_percent: vm.cpu_percent,
        ram_usage_percent: vm.ram_percent,
    }
}

fn address(vm: &VmView) -> String {
    vm.record.address.map(|a| a.to_string()).unwrap_or_default()
}

fn uptime(vm: &VmView, now: Timestamp) -> i64 {
    match vm.status {
        VmStatus::Running | VmStatus::Paused => {
            vm.record.started_at.map_or(0, |at| now.duration_since(at).as_secs().max(0))
        }
        VmStatus::Creating | VmStatus::Stopped | VmStatus::Deleting | VmStatus::Error => 0,
    }
}

fn saturating(n: u32) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
