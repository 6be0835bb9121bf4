//! libvirtd and QEMU die, hang and come back.

use std::time::{Duration, Instant};

use ghost_e2e::lab::Lab;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::ListVMsRequest;
use rustix::process::Signal;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::stage::{AT_ONCE, EVENT, RECONNECT, SOON, Stage, Vm};

/// Fault: libvirtd is killed while a VM runs. Promise: 2, 8, 10. Result: the guest runs on, its
/// status is answered at once, a stop is refused with UNAVAILABLE and a time to try again; when
/// libvirtd is back the agent finds it by itself and the stop succeeds.
#[tokio::test]
async fn libvirtd_killed_while_a_vm_runs() {
    let stage = Stage::with_guests().await;
    let vm = stage.create("faulty").await.unwrap();

    stage.lab.kill_libvirtd().await.unwrap();
    stage.agent.until("lost libvirt", RECONNECT).await.unwrap();
    assert_eq!(stage.status(&vm).await.status, "running");
    let refused = stage.cut(&vm).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    assert!(refused.get_details_retry_info().is_some(), "{refused}");
    assert!(stage.lab.answers(&vm.address).await, "the guest died with libvirtd");

    stage.lab.start_libvirtd().await.unwrap();
    let stopped = stage.once_libvirt_is_back(async || stage.cut(&vm).await).await;
    assert_eq!(stopped.status, "stopped");
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: libvirtd hangs (SIGSTOP) while a VM runs. Promise: 2, 7, 8. Result: reads are answered at
/// once; SIGTERM ends the agent with exit 0 within its limits; the guest runs on.
#[tokio::test]
async fn libvirtd_hangs_while_a_vm_runs() {
    let mut stage = Stage::with_guests().await;
    let vm = stage.create("faulty").await.unwrap();

    stage.lab.freeze_libvirtd().await.unwrap();
    for _ in 0..20 {
        assert_eq!(stage.status(&vm).await.status, "running");
        let asked = Instant::now();
        let list = stage.api.list_v_ms(ListVMsRequest::default()).await.unwrap().into_inner();
        assert_eq!(list.vms.len(), 1);
        assert!(asked.elapsed() < AT_ONCE, "a read waited for libvirt: {:?}", asked.elapsed());
    }
    let told = Instant::now();
    stage.agent.signal(Signal::TERM).unwrap();
    let ended = stage.agent.ended().await.unwrap();
    assert!(ended.success(), "{ended}:\n{}", stage.agent.log().join("\n"));
    assert!(told.elapsed() < Duration::from_secs(40), "{:?}", told.elapsed());
    assert!(stage.lab.answers(&vm.address).await, "the guest died with the agent");

    stage.lab.thaw_libvirtd().await.unwrap();
    stage.next_agent().await;
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: QEMU is killed under a VM. Promise: 8, 10. Result: status `error` with the reason within a
/// second of libvirt's event; a delete leaves nothing.
#[tokio::test]
async fn qemu_killed_under_a_vm() {
    let stage = Stage::with_guests().await;
    let events = stage.lab.events().unwrap();
    let vm = stage.create("faulty").await.unwrap();
    events.until("Started", EVENT).await.unwrap();

    stage.lab.kill_qemu(&vm.id).await.unwrap();
    events.until("Stopped", EVENT).await.unwrap();
    let status = stage.becomes(&vm, "error", SOON).await;
    assert!(!status.reason.is_empty(), "an error without its reason");

    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: the guest powers itself off. Promise: 8. Result: status `stopped` within a second of
/// libvirt's event.
#[tokio::test]
async fn a_guest_powers_itself_off() {
    let stage = Stage::with_guests().await;
    let events = stage.lab.events().unwrap();
    let vm = stage.create("faulty").await.unwrap();
    events.until("Started", EVENT).await.unwrap();

    // The button is pressed past the agent: it hears of the end from libvirt alone.
    stage.lab.virsh(&["shutdown", &vm.id, "--mode", "acpi"]).await.unwrap();
    events.until("Stopped", EVENT).await.unwrap();
    stage.becomes(&vm, "stopped", SOON).await;

    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: kill -9 of the agent while a VM runs. Promise: 2. Result: the guest runs on in the same
/// QEMU, and the next agent knows it.
#[tokio::test]
async fn the_agent_killed_while_a_vm_runs() {
    let mut stage = Stage::with_guests().await;
    let vm = stage.create("faulty").await.unwrap();
    let qemu = stage.lab.qemu(&vm.id).unwrap();

    stage.agent.kill().await.unwrap();
    assert!(stage.lab.answers(&vm.address).await, "the guest died with the agent");
    stage.next_agent().await;
    assert_eq!(stage.status(&vm).await.status, "running");
    assert_eq!(stage.lab.qemu(&vm.id).unwrap(), qemu, "the guest was started anew");

    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// How old the agent says that a list is, if it says so.
async fn age(stage: &Stage) -> Option<String> {
    let list = stage.api.clone().list_v_ms(ListVMsRequest::default()).await.unwrap();
    let age = list.metadata().get("x-ghost-age-seconds")?;
    Some(age.to_str().unwrap().to_owned())
}

/// Waits until answers have an age, or have none.
async fn until_aged(stage: &Stage, aged: Aged) {
    let turns = eventually("the change of the answers' age", RECONNECT, async || {
        let now = if age(stage).await.is_some() { Aged::Yes } else { Aged::No };
        Ok((now == aged).then_some(()))
    });
    turns.await.unwrap();
}

/// Whether answers come from a cache that gets older.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aged {
    Yes,
    No,
}

/// A VM that runs, and needs no boot.
async fn running(stage: &Stage, name: &str) -> Vm {
    let vm = stage.create(name).await.unwrap();
    stage.cut(&vm).await.unwrap();
    stage.start(&vm).await.unwrap();
    vm
}

/// Fault: libvirtd is restarted while a VM runs and nobody asks for anything. Promise: 2, 8. Result: the guest runs on
/// in the same QEMU, its status stays `running`, and events are heard again.
#[tokio::test]
async fn libvirtd_restarted_while_a_vm_runs() {
    let stage = Stage::with_guests().await;
    let vm = stage.create("faulty").await.unwrap();
    let qemu = stage.lab.qemu(&vm.id).unwrap();

    stage.lab.kill_libvirtd().await.unwrap();
    stage.agent.until("lost libvirt", RECONNECT).await.unwrap();
    stage.lab.start_libvirtd().await.unwrap();
    until_aged(&stage, Aged::No).await;
    assert_eq!(stage.status(&vm).await.status, "running");
    assert_eq!(stage.lab.qemu(&vm.id).unwrap(), qemu, "the guest was started anew");
    assert!(stage.lab.answers(&vm.address).await, "the guest died with libvirtd");

    let events = stage.lab.events().unwrap();
    stage.lab.virsh(&["shutdown", &vm.id, "--mode", "acpi"]).await.unwrap();
    events.until("Stopped", EVENT).await.unwrap();
    stage.becomes(&vm, "stopped", SOON).await;
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: QEMU is killed while libvirtd is down. Promise: 8, 10. Result: once libvirtd is back the status is `error` or
/// `stopped`, with the reason; a start brings the VM back.
#[tokio::test]
async fn qemu_killed_while_libvirtd_is_down() {
    let stage = Stage::with_blank_vms().await;
    let vm = running(&stage, "faulty").await;
    let qemu = stage.lab.qemu(&vm.id).unwrap();

    stage.lab.kill_libvirtd().await.unwrap();
    stage.lab.kill_qemu(&vm.id).await.unwrap();
    stage.agent.until("lost libvirt", RECONNECT).await.unwrap();
    assert_eq!(stage.status(&vm).await.status, "running", "that is all that is known");
    stage.lab.start_libvirtd().await.unwrap();
    let down = eventually("the VM's end", RECONNECT, async || {
        let status = stage.status(&vm).await;
        let down = ["error", "stopped"].contains(&status.status.as_str());
        Ok((down && !status.reason.is_empty()).then_some(status))
    });
    let down = down.await.unwrap();
    eprintln!("{}: {}", down.status, down.reason);
    assert!(down.reason.contains("agentctl vm start faulty"), "{}", down.reason);

    stage.once_libvirt_is_back(async || stage.start(&vm).await).await;
    stage.becomes(&vm, "running", EVENT).await;
    assert_ne!(stage.lab.qemu(&vm.id).unwrap(), qemu);
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// A verb, its answer, and what it took.
async fn measured<T>(
    what: &str,
    verb: impl Future<Output = Result<T, Status>>,
) -> (Result<T, Status>, Duration) {
    let asked = Instant::now();
    let answer = verb.await;
    let took = asked.elapsed();
    eprintln!("{what}: {took:?}");
    (answer, took)
}

/// Fails unless a write is refused at once, with a time to try again.
async fn refused_at_once<T: std::fmt::Debug>(
    what: &str,
    verb: impl Future<Output = Result<T, Status>>,
) {
    let (answer, took) = measured(what, verb).await;
    let refused = answer.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{what}: {refused}");
    assert!(refused.get_details_retry_info().is_some(), "{what}: {refused}");
    assert!(took < AT_ONCE, "{what} waited: {took:?}");
}

/// What `agentctl vm list` remarks on.
async fn remark(stage: &Stage) -> String {
    let listed = stage.home.ctl(&stage.agent).unwrap().run(["vm", "list"]).await.unwrap();
    assert_eq!(listed.code, Some(0), "{}", listed.stderr);
    assert!(listed.stdout.contains("runs"), "{}", listed.stdout);
    listed.stderr
}

/// Lets libvirtd go, sees how writes and reads are answered once that is noticed, and lets it come back.
async fn away(go: impl AsyncFn(&Lab), come_back: impl AsyncFn(&Lab)) {
    let stage = Stage::with_blank_vms().await;
    let (runs, off) = (running(&stage, "runs").await, running(&stage, "off").await);
    stage.cut(&off).await.unwrap();
    assert_eq!((age(&stage).await, remark(&stage).await.as_str()), (None, ""));

    go(&stage.lab).await;
    let gone = Instant::now();
    stage.agent.until("libvirt is away", RECONNECT).await.unwrap();
    until_aged(&stage, Aged::Yes).await;
    eprintln!("noticed after {:?}", gone.elapsed());
    // For longer than libvirt is left alone between two probes.
    for _ in 0..20 {
        refused_at_once("create", stage.create("other")).await;
        refused_at_once("start", stage.start(&off)).await;
        refused_at_once("stop", stage.stop_gracefully(&runs)).await;
        refused_at_once("forced stop", stage.cut(&runs)).await;
        assert_eq!(stage.status(&runs).await.status, "running");
        let aged = age(&stage).await.unwrap();
        aged.parse::<u64>().unwrap();
        let remark = remark(&stage).await;
        assert!(remark.contains("as of ") && remark.contains(" ago"), "{remark}");
    }
    refused_at_once("delete", stage.delete(&off)).await;

    come_back(&stage.lab).await;
    until_aged(&stage, Aged::No).await;
    assert_eq!(remark(&stage).await, "");
    stage.vanishes(&off, RECONNECT).await;
    stage.once_libvirt_is_back(async || stage.delete(&runs).await).await;
    stage.stop().await;
}

/// Fault: libvirtd is dead, and the agent knows. Promise: 7, 8, 10. Result: writes are answered UNAVAILABLE within a
/// second with a time to try again; reads say how old they are, and `agentctl` too, until libvirtd is back.
#[tokio::test]
async fn libvirtd_is_known_to_be_dead() {
    let go = async |lab: &Lab| lab.kill_libvirtd().await.unwrap();
    away(go, async |lab: &Lab| lab.start_libvirtd().await.unwrap()).await;
}

/// Fault: libvirtd hangs, and the agent knows. Promise: 7, 8, 10. Result: writes are answered UNAVAILABLE within a second
/// with a time to try again; reads say how old they are, and `agentctl` too, until libvirtd is back.
#[tokio::test]
async fn libvirtd_is_known_to_hang() {
    let go = async |lab: &Lab| lab.freeze_libvirtd().await.unwrap();
    away(go, async |lab: &Lab| lab.thaw_libvirtd().await.unwrap()).await;
}
