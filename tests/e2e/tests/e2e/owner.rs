//! What the owner keeps, how often may be called, and who watches.

use std::time::Duration;

use ghost_e2e::agent::Home;
use ghost_e2e::client::{self, Client, mini};
use ghost_e2e::host;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::{
    CreateVmRequest, DeleteVmRequest, GetNodeInfoRequest, GetVmStatusRequest, StopVmRequest,
    VmEvent, WatchVMsRequest,
};
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

/// Longest wait for an event that has happened.
const SOON: Duration = Duration::from_secs(10);

async fn watch(api: &Client, resume_token: &str) -> Streaming<VmEvent> {
    let request = WatchVMsRequest { resume_token: resume_token.to_owned() };
    api.clone().watch_v_ms(request).await.unwrap().into_inner()
}

async fn next(events: &mut Streaming<VmEvent>) -> VmEvent {
    tokio::time::timeout(SOON, events.message()).await.unwrap().unwrap().unwrap()
}

/// As `changed e2e-watch running`.
fn text(event: &VmEvent) -> String {
    let vm = event.vm.as_ref().map(|vm| format!(" {} {}", vm.name, vm.status));
    format!("{}{}", event.kind, vm.unwrap_or_default())
}

/// Reads until an event with that text comes, and gives it.
async fn until(events: &mut Streaming<VmEvent>, wanted: &str) -> VmEvent {
    loop {
        let event = next(events).await;
        if text(&event) == wanted {
            return event;
        }
    }
}

#[tokio::test]
async fn who_watches_is_told_each_change_in_order_also_after_a_break() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let mut events = watch(&api, "").await;
    assert_eq!(text(&next(&mut events).await), "synced");
    let vm = api.create_vm(mini("e2e-watch")).await.unwrap().into_inner();
    assert_eq!(text(&next(&mut events).await), "changed e2e-watch creating");
    let running = until(&mut events, "changed e2e-watch running").await;
    assert_eq!(running.vm.unwrap().ip_address, vm.ip_address);

    // The connection breaks; what happens meanwhile is told afterwards.
    drop(events);
    api.stop_vm(StopVmRequest { vm_id: vm.vm_id.clone(), force: true }).await.unwrap();
    let mut events = watch(&api, &running.resume_token).await;
    until(&mut events, "changed e2e-watch stopped").await;
    api.delete_vm(DeleteVmRequest { vm_id: vm.vm_id }).await.unwrap();
    until(&mut events, "changed e2e-watch deleting").await;
    let last = until(&mut events, "deleted e2e-watch ").await;

    // The stream ends with the agent; the next one begins anew.
    agent.stop().await.unwrap();
    let agent = home.start().await.unwrap();
    let api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    assert_eq!(text(&next(&mut watch(&api, &last.resume_token).await).await), "synced");
    let made_up = WatchVMsRequest { resume_token: "1:2:3".to_owned() };
    let refused = api.clone().watch_v_ms(made_up).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("resume_token"), "{refused}");
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn who_calls_too_often_is_told_when_to_try_again_and_reads_go_on() {
    let home = Home::new().await.unwrap().with("RATES__CLIENT_CHANGES_PER_S", "1");
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let gone = || DeleteVmRequest { vm_id: "e2e-nobody".to_owned() };
    let refused = loop {
        let refused = api.delete_vm(gone()).await.unwrap_err();
        if refused.code() != Code::NotFound {
            break refused;
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let reason = refused.get_details_error_info().unwrap().reason;
    assert_eq!(reason, "RESOURCE_LIMIT_EXCEEDED");
    assert!(refused.get_details_retry_info().unwrap().retry_delay.unwrap() > Duration::ZERO);

    let memory = || {
        let status = std::fs::read_to_string(format!(
            "/proc/{}/status",
            agent.pid().unwrap().as_raw_nonzero()
        ));
        let status = status.unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    };
    let ask = async |api: &mut Client| {
        let request = GetVmStatusRequest { vm_id: "e2e-nobody".to_owned() };
        assert_eq!(api.get_vm_status(request).await.unwrap_err().code(), Code::NotFound);
    };
    for _ in 0..1000 {
        ask(&mut api).await;
    }
    let before = memory();
    for _ in 0..10_000 {
        ask(&mut api).await;
    }
    assert!(memory() <= before + 2048, "{before} KiB, then {} KiB", memory());
    agent.stop().await.unwrap();
}

/// CPUs that each thread of a process may use, and the CPU time that the process has used, in ticks.
fn threads_of(qemu: i32) -> (Vec<String>, u64) {
    let task = std::fs::read_dir(format!("/proc/{qemu}/task")).unwrap();
    let allowed = task.flatten().filter_map(|thread| {
        let status = std::fs::read_to_string(thread.path().join("status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
        Some(line.trim().to_owned())
    });
    let stat = std::fs::read_to_string(format!("/proc/{qemu}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    (allowed.collect(), ticks)
}

#[tokio::test]
async fn a_reserved_cpu_stays_the_owners_whatever_a_guest_does() {
    let home = Home::new().await.unwrap().with("RESOURCES__RESERVED_CPU", "1");
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let before = api.get_node_info(GetNodeInfoRequest {}).await.unwrap().into_inner();
    let cpus = before.cpu.unwrap();
    assert_eq!((cpus.reserved, cpus.allocated), (1.0, 0.0));
    assert!(cpus.total >= 2.0, "this host has one CPU: nothing can be shown");

    let busy = "#!/bin/sh\nfor i in 1 2 3 4; do (while :; do :; done) & done\n".to_owned();
    let request = CreateVmRequest { user_data: busy, vcpu: 2, ..mini("e2e-busy") };
    let vm = api.create_vm(request).await.unwrap().into_inner();
    let all = host::virsh(&["domid", &vm.vm_id]).await.unwrap();
    assert!(all.trim().parse::<u32>().is_ok(), "{all}");
    let name = host::virsh(&["domname", &vm.vm_id]).await.unwrap();
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{}.pid", name.trim())).unwrap();
    let pid: i32 = pid.trim().parse().unwrap();

    // It uses what it may, as its status says, and none of its threads may use the owner's CPU, the first.
    let busy = eventually("a busy guest", Duration::from_secs(60), async || {
        let request = GetVmStatusRequest { vm_id: vm.vm_id.clone() };
        let status = api.clone().get_vm_status(request).await?.into_inner();
        Ok((status.cpu_usage_percent > 20.0).then_some(status))
    });
    let status = busy.await.unwrap();
    assert!(status.host_ram_bytes > 0 && status.disk_used_bytes > 0, "{status:?}");
    let (allowed, ticks) = threads_of(pid);
    assert!(allowed.len() > 2 && ticks > 0);
    let first = std::fs::read_to_string("/sys/devices/system/cpu/online").unwrap();
    let first = first.trim().split(['-', ',']).next().unwrap().to_owned();
    for list in &allowed {
        let begins = list.split(['-', ',']).next().unwrap();
        assert_ne!(begins, first, "a thread of the guest may use the owner's CPU: {allowed:?}");
    }
    let node = api.get_node_info(GetNodeInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((node.vms, node.vms_running), (1, 1));
    assert!(node.cpu.unwrap().used > 0.2, "{node:?}");
    api.delete_vm(DeleteVmRequest { vm_id: vm.vm_id }).await.unwrap();
    agent.stop().await.unwrap();
}

#[tokio::test]
async fn a_reservation_that_is_raised_over_what_vms_have_kills_none_and_admits_none() {
    let home = Home::new().await.unwrap();
    let agent = home.start().await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let vm = api.create_vm(mini("e2e-deficit")).await.unwrap().into_inner();
    agent.stop().await.unwrap();

    let home = home.with("RESOURCES__RESERVED_RAM_GB", "65536");
    let agent = home.start().await.unwrap();
    agent.until("more than the host has", SOON).await.unwrap();
    let mut api = client::operator(agent.address().unwrap(), &home.certs).await.unwrap();
    let ram = api.get_node_info(GetNodeInfoRequest {}).await.unwrap().into_inner().ram.unwrap();
    assert_eq!(ram.available, 0.0);
    assert!(ram.deficit >= f64::from(1 << 30), "{ram:?}");
    assert!(host::answers(&vm.ip_address).await.unwrap(), "the guest died of a reservation");
    let refused = api.create_vm(mini("e2e-more")).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    api.delete_vm(DeleteVmRequest { vm_id: vm.vm_id }).await.unwrap();
    agent.stop().await.unwrap();
}
