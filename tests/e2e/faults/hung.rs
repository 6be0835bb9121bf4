//! One domain hangs: its QEMU is frozen and answers libvirt nothing.

use std::time::{Duration, Instant};

use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use ghost_proto::agentpb::ListVMsRequest;
use tonic::Code;

use crate::stage::{AT_ONCE, EVENT, SOON, Stage, Vm};

/// Longest start, stop, delete or create of a VM that needs no boot, on a host with nothing to do.
const NORMAL: Duration = Duration::from_secs(15);
/// Longest answer to a delete of a VM that hangs: libvirt gives its QEMU 15 s to end before it kills it.
const TOLD: Duration = Duration::from_secs(40);
/// Until what could not be removed is tried again, and removed.
const CONVERGED: Duration = Duration::from_secs(75);
/// Longest start of an agent: it waits 5 s for VMs that take long.
const READY: Duration = Duration::from_secs(8);

/// Two running VMs, of which the first hangs.
async fn stage() -> (Stage, Vm, Vm) {
    let lab = Lab::start().await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    let stage = Stage::of(lab, home.with("VM__STOP_TIMEOUT", "1s")).await;
    let hangs = running(&stage, "hangs").await;
    let other = running(&stage, "other").await;
    stage.lab.freeze_qemu(&hangs.id).unwrap();
    (stage, hangs, other)
}

/// A VM that runs, and needs no boot.
async fn running(stage: &Stage, name: &str) -> Vm {
    let vm = stage.create(name).await.unwrap();
    stage.cut(&vm).await.unwrap();
    stage.start(&vm).await.unwrap();
    vm
}

/// Fails if it takes longer than ever on an idle host.
async fn in_normal_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    let began = Instant::now();
    let done = work.await;
    eprintln!("{what}: {:?}", began.elapsed());
    assert!(began.elapsed() < NORMAL, "{what}: {:?}", began.elapsed());
    done
}

/// Every verb on other VMs, with reads in between.
async fn others_go_on(stage: &Stage, hangs: &Vm, other: &Vm) {
    let reads = async || {
        assert_eq!(stage.status(hangs).await.status, "running");
        let asked = Instant::now();
        stage.api.clone().list_v_ms(ListVMsRequest::default()).await.unwrap();
        assert!(asked.elapsed() < AT_ONCE, "a list waited: {:?}", asked.elapsed());
    };
    reads().await;
    in_normal_time("stop of another", stage.stop_gracefully(other)).await.unwrap();
    reads().await;
    in_normal_time("start of another", stage.start(other)).await.unwrap();
    reads().await;
    let third = in_normal_time("create of another", stage.create("third")).await.unwrap();
    reads().await;
    for vm in [other, &third] {
        in_normal_time("delete of another", stage.delete(vm)).await.unwrap();
        reads().await;
    }
}

/// Deletes the VM that hangs.
async fn delete(stage: &Stage, hangs: &Vm) {
    let began = Instant::now();
    let deleted = stage.delete(hangs).await;
    eprintln!("delete of the VM that hangs: {:?}: {deleted:?}", began.elapsed());
    assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
    if let Err(refused) = deleted {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        stage.vanishes(hangs, CONVERGED).await;
    }
    stage.home.ensure_nothing_left().await.unwrap();
}

/// Fault: one domain hangs (SIGSTOP of its QEMU). Promise: 1, 7, 8. Result: reads and every verb on other VMs are as
/// fast as ever; its own delete ends within its limits and leaves nothing.
#[tokio::test]
async fn one_domain_hangs() {
    let (stage, hangs, other) = stage().await;
    others_go_on(&stage, &hangs, &other).await;
    delete(&stage, &hangs).await;
    stage.stop().await;
}

/// Fault: one domain hangs, and QEMU is killed under another VM. Promise: 8. Result: status `error` within a second of
/// libvirt's event, again and again while libvirt is being asked for all domains.
#[tokio::test]
async fn one_domain_hangs_and_another_dies() {
    let (stage, hangs, other) = stage().await;
    // libvirt is asked every 5 s, and leaves that question open for 10 s.
    for _ in 0..4 {
        let events = stage.lab.events().unwrap();
        stage.lab.kill_qemu(&other.id).await.unwrap();
        events.until("Stopped", EVENT).await.unwrap();
        stage.becomes(&other, "error", SOON).await;
        in_normal_time("start of another", stage.start(&other)).await.unwrap();
    }
    stage.lab.thaw_qemu(&hangs.id).unwrap();
    for vm in [&hangs, &other] {
        stage.delete(vm).await.unwrap();
    }
    stage.stop().await;
}

/// Fault: one domain hangs, and its guest is asked to power off. Promise: 1, 7. Result: the stop is answered within
/// its limits, its power can be cut all the same, and it starts again.
#[tokio::test]
async fn one_domain_hangs_and_is_to_stop() {
    let (stage, hangs, other) = stage().await;
    let began = Instant::now();
    let stopped = stage.stop_gracefully(&hangs).await;
    eprintln!("stop of the VM that hangs: {:?}: {stopped:?}", began.elapsed());
    assert!(began.elapsed() < TOLD, "{:?}", began.elapsed());
    if let Err(refused) = stopped {
        assert_eq!(refused.code(), Code::Unavailable, "{refused}");
        stage.once_libvirt_is_back(async || stage.cut(&hangs).await).await;
    }
    stage.becomes(&hangs, "stopped", EVENT).await;
    in_normal_time("start", stage.start(&hangs)).await.unwrap();
    for vm in [&hangs, &other] {
        stage.delete(vm).await.unwrap();
    }
    stage.stop().await;
}

/// Fault: one domain hangs while the agent is started anew. Promise: 2, 7, 8. Result: it is ready in time, knows both,
/// and other VMs are not held up.
#[tokio::test]
async fn one_domain_hangs_while_the_agent_is_started() {
    let (mut stage, hangs, other) = stage().await;
    stage.agent.kill().await.unwrap();
    let began = Instant::now();
    stage.next_agent().await;
    eprintln!("ready after {:?}", began.elapsed());
    assert!(began.elapsed() < READY, "{:?}", began.elapsed());
    stage.becomes(&hangs, "running", EVENT).await;
    in_normal_time("stop of another", stage.stop_gracefully(&other)).await.unwrap();
    in_normal_time("delete of another", stage.delete(&other)).await.unwrap();
    stage.lab.thaw_qemu(&hangs.id).unwrap();
    stage.once_libvirt_is_back(async || stage.delete(&hangs).await).await;
    stage.stop().await;
}

/// Fault: one domain hangs while the agent that was to delete it is killed. Promise: 1, 7. Result: the next agent is
/// ready in time, does not hold up other VMs, and finishes the delete.
#[tokio::test]
async fn full_one_domain_hangs_while_its_delete_is_cut_off() {
    let (mut stage, hangs, other) = stage().await;
    let mut api = stage.api.clone();
    let request = ghost_proto::agentpb::DeleteVmRequest { vm_id: hangs.id.clone() };
    let killed = async {
        stage.becomes(&hangs, "deleting", EVENT).await;
        stage.agent.signal(rustix::process::Signal::KILL).unwrap();
    };
    let (deleted, ()) = tokio::join!(api.delete_vm(request), killed);
    assert!(deleted.is_err(), "a dead agent answered");
    stage.agent.crashed().await.unwrap();
    let began = Instant::now();
    stage.next_agent().await;
    eprintln!("ready after {:?}", began.elapsed());
    assert!(began.elapsed() < READY, "{:?}", began.elapsed());
    in_normal_time("stop of another", stage.stop_gracefully(&other)).await.unwrap();
    in_normal_time("delete of another", stage.delete(&other)).await.unwrap();
    stage.vanishes(&hangs, CONVERGED).await;
    stage.home.ensure_nothing_left().await.unwrap();
    stage.stop().await;
}
