//! In the middle of a verb: libvirtd dies, is restarted or hangs, the agent is told to stop, others want the same
//! VM. The agent holds still right before the verb's step in libvirt meanwhile.

use std::pin::pin;
use std::time::{Duration, Instant};

use ghost_e2e::client::mini;
use ghost_e2e::failpoint::At;
use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use ghost_e2e::rounds;
use ghost_e2e::wait::eventually;
use ghost_proto::agentpb::{CreateVmRequest, CreateVmResponse, ListVMsRequest};
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::stage::{AT_ONCE, EVENT, RECONNECT, Stage, Vm};

/// Longest answer of a verb that has lost libvirtd, dead or frozen.
const TOLD: Duration = Duration::from_secs(15);
/// Until what was cut off is finished or undone once libvirtd is back, and what its last calls may have left is
/// looked for again.
const CONVERGED: Duration = Duration::from_secs(75);
/// How long a libvirtd is frozen at most; longer than each of the agent's deadlines for one call.
const FROZEN: Duration = Duration::from_secs(30);

const CREATE: [&str; 2] = ["hypervisor.define:before", "hypervisor.ensure_started:before"];
const DELETE: &str = "hypervisor.ensure_undefined:before";
/// The create's own start is the first.
const START: &str = "hypervisor.ensure_started:before#2";
/// The power was cut once before.
const STOP: [&str; 2] = ["hypervisor.ask_to_power_off:before", "hypervisor.ensure_off:before#2"];

/// The last one in the daily run, else all.
fn steps(all: &'static [&'static str]) -> &'static [&'static str] {
    if rounds() > 1 { all } else { &all[all.len() - 1..] }
}

/// What befalls libvirtd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is killed, and started again once the verb has its answer.
    Dies,
    /// It is killed, and runs again before the verb goes on.
    IsRestarted,
    /// It is frozen until the verb has its answer.
    Hangs,
    /// It is frozen for [`FROZEN`], whatever the verb does.
    HangsOn,
}

impl Fault {
    async fn strike(self, lab: &Lab) {
        match self {
            Self::Dies => lab.kill_libvirtd().await.unwrap(),
            Self::IsRestarted => {
                lab.kill_libvirtd().await.unwrap();
                lab.start_libvirtd().await.unwrap();
            }
            Self::Hangs | Self::HangsOn => lab.freeze_libvirtd().await.unwrap(),
        }
    }

    async fn end(self, lab: &Lab) {
        match self {
            Self::Dies => lab.start_libvirtd().await.unwrap(),
            Self::IsRestarted => {}
            Self::Hangs | Self::HangsOn => lab.thaw_libvirtd().await.unwrap(),
        }
    }

    /// The rest of the fault after the verb's answer: reads are answered all the while.
    async fn last(self, stage: &Stage, struck: Instant) {
        match self {
            Self::Dies | Self::IsRestarted | Self::Hangs => {}
            Self::HangsOn => {
                let over = eventually("the fault's end", 2 * FROZEN, async || {
                    names(stage).await;
                    Ok((struck.elapsed() >= FROZEN).then_some(()))
                });
                over.await.unwrap();
            }
        }
    }
}

/// An agent that holds still at that step; a guest that is asked to power off has a second.
async fn holding(step: &str) -> Stage {
    let lab = Lab::start().await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    let home = home.with("VM__STOP_TIMEOUT", "1s").with("AGENT__SHUTDOWN_TIMEOUT", "1s");
    let agent = home.start_failing(step, At::Hold).await.unwrap();
    let api = home.api(&agent).await.unwrap();
    Stage { api, agent, home, lab }
}

/// The names of all VMs, which must be answered at once.
async fn names(stage: &Stage) -> Vec<String> {
    let asked = Instant::now();
    let list = stage.api.clone().list_v_ms(ListVMsRequest::default()).await.unwrap();
    assert!(asked.elapsed() < AT_ONCE, "a read waited: {:?}", asked.elapsed());
    list.into_inner().vms.into_iter().map(|vm| vm.name).collect()
}

/// The VM of that name.
fn named(name: &str) -> Vm {
    Vm { id: name.to_owned(), address: String::new() }
}

/// Lets the fault strike while the verb holds still, and gives the verb's answer; libvirtd is well by then. A
/// refusal says that it is libvirt that is away, and when to try again.
async fn in_the_middle(
    stage: &Stage,
    fault: Fault,
    verb: impl Future<Output = Result<(), Status>>,
) -> Result<(), Status> {
    let mut verb = pin!(verb);
    let strike = async {
        stage.agent.held().await.unwrap();
        fault.strike(&stage.lab).await;
        let struck = Instant::now();
        stage.agent.release().await.unwrap();
        struck
    };
    let struck = tokio::select! {
        biased;
        struck = strike => Some(struck),
        _answered = &mut verb => None,
    };
    let struck = struck.unwrap();
    let answer = tokio::time::timeout(TOLD, verb).await.unwrap();
    eprintln!("{fault:?}: answered after {:?}: {answer:?}", struck.elapsed());
    fault.last(stage, struck).await;
    fault.end(&stage.lab).await;
    match &answer {
        Ok(()) => assert_eq!(fault, Fault::IsRestarted, "done without libvirtd"),
        Err(refused) => {
            assert_eq!(refused.code(), Code::Unavailable, "{refused}");
            assert!(refused.get_details_retry_info().is_some(), "{refused}");
        }
    }
    answer
}

async fn nothing_left(stage: Stage) {
    let nothing =
        eventually("nothing", CONVERGED, async || Ok(stage.home.ensure_nothing_left().await.ok()));
    nothing.await.unwrap();
    stage.stop().await;
}

async fn create(fault: Fault) {
    for step in steps(&CREATE) {
        let stage = holding(step).await;
        let verb = async { stage.create("struck").await.map(drop) };
        match in_the_middle(&stage, fault, verb).await {
            Ok(()) => drop(stage.delete(&named("struck")).await.unwrap()),
            Err(_told) => stage.vanishes(&named("struck"), CONVERGED).await,
        }
        nothing_left(stage).await;
    }
}

async fn delete(fault: Fault) {
    let stage = holding(DELETE).await;
    let vm = stage.create("struck").await.unwrap();
    let verb = async { stage.delete(&vm).await.map(drop) };
    // Without a word from anybody.
    drop(in_the_middle(&stage, fault, verb).await);
    stage.vanishes(&vm, CONVERGED).await;
    nothing_left(stage).await;
}

async fn start(fault: Fault) {
    let stage = holding(START).await;
    let vm = stage.create("struck").await.unwrap();
    stage.cut(&vm).await.unwrap();
    let verb = async { stage.start(&vm).await.map(drop) };
    drop(in_the_middle(&stage, fault, verb).await);
    stage.once_libvirt_is_back(async || stage.start(&vm).await).await;
    stage.becomes(&vm, "running", EVENT).await;
    stage.lab.qemu(&vm.id).unwrap();
    stage.delete(&vm).await.unwrap();
    nothing_left(stage).await;
}

async fn stop(fault: Fault) {
    for step in steps(&STOP) {
        let stage = holding(step).await;
        let vm = stage.create("struck").await.unwrap();
        // Else it would be kept as it was made, with status `error`.
        stage.cut(&vm).await.unwrap();
        stage.start(&vm).await.unwrap();
        let verb = async { stage.stop_gracefully(&vm).await.map(drop) };
        drop(in_the_middle(&stage, fault, verb).await);
        stage.once_libvirt_is_back(async || stage.stop_gracefully(&vm).await).await;
        stage.becomes(&vm, "stopped", EVENT).await;
        assert!(stage.lab.qemu(&vm.id).is_err(), "{step}: stopped, and its QEMU runs");
        stage.delete(&vm).await.unwrap();
        nothing_left(stage).await;
    }
}

/// Fault: libvirtd is killed in the middle of a create. Promise: 1, 7, 10. Result: UNAVAILABLE with a time to try
/// again; once libvirtd is back it is undone by itself, and nothing is left.
#[tokio::test]
async fn libvirtd_killed_in_the_middle_of_a_create() {
    create(Fault::Dies).await;
}

/// Fault: libvirtd is killed in the middle of a delete. Promise: 1, 7, 10. Result: UNAVAILABLE with a time to try
/// again; once libvirtd is back it is finished by itself, and nothing is left.
#[tokio::test]
async fn libvirtd_killed_in_the_middle_of_a_delete() {
    delete(Fault::Dies).await;
}

/// Fault: libvirtd is killed in the middle of a start. Promise: 1, 7, 10. Result: UNAVAILABLE with a time to try again;
/// a repetition works.
#[tokio::test]
async fn libvirtd_killed_in_the_middle_of_a_start() {
    start(Fault::Dies).await;
}

/// Fault: libvirtd is killed in the middle of a stop. Promise: 1, 7, 10. Result: UNAVAILABLE with a time to try again;
/// a repetition works.
#[tokio::test]
async fn libvirtd_killed_in_the_middle_of_a_stop() {
    stop(Fault::Dies).await;
}

/// Fault: libvirtd is restarted in the middle of a create. Promise: 1, 7. Result: the VM is whole, or UNAVAILABLE
/// and it is undone; nothing is left.
#[tokio::test]
async fn libvirtd_restarted_in_the_middle_of_a_create() {
    create(Fault::IsRestarted).await;
}

/// Fault: libvirtd is restarted in the middle of a delete. Promise: 1, 7. Result: the VM is gone, at once or by itself,
/// and nothing is left.
#[tokio::test]
async fn libvirtd_restarted_in_the_middle_of_a_delete() {
    delete(Fault::IsRestarted).await;
}

/// Fault: libvirtd is restarted in the middle of a start. Promise: 1, 7. Result: the VM runs, or UNAVAILABLE and a
/// repetition works.
#[tokio::test]
async fn libvirtd_restarted_in_the_middle_of_a_start() {
    start(Fault::IsRestarted).await;
}

/// Fault: libvirtd is restarted in the middle of a stop. Promise: 1, 7. Result: the VM is off, or UNAVAILABLE and a
/// repetition works.
#[tokio::test]
async fn libvirtd_restarted_in_the_middle_of_a_stop() {
    stop(Fault::IsRestarted).await;
}

/// Fault: libvirtd hangs (SIGSTOP) in the middle of a create until it is answered. Promise: 1, 7, 8, 10. Result:
/// UNAVAILABLE with a time to try again; what libvirtd then does late is undone, and nothing is left.
#[tokio::test]
async fn libvirtd_hangs_in_the_middle_of_a_create() {
    create(Fault::Hangs).await;
}

/// Fault: libvirtd hangs (SIGSTOP) in the middle of a delete until it is answered. Promise: 1, 7, 8, 10. Result:
/// UNAVAILABLE with a time to try again; then it is finished by itself, and nothing is left.
#[tokio::test]
async fn libvirtd_hangs_in_the_middle_of_a_delete() {
    delete(Fault::Hangs).await;
}

/// Fault: libvirtd hangs (SIGSTOP) in the middle of a stop until it is answered. Promise: 1, 7, 8, 10. Result:
/// UNAVAILABLE with a time to try again; a repetition works.
#[tokio::test]
async fn libvirtd_hangs_in_the_middle_of_a_stop() {
    stop(Fault::Hangs).await;
}

/// Fault: libvirtd hangs (SIGSTOP) for 30 s in the middle of a create. Promise: 1, 7, 8, 10. Result: UNAVAILABLE with a
/// time to try again, reads go on; what libvirtd then does late is undone, and nothing is left.
#[tokio::test]
async fn full_libvirtd_hangs_for_30_s_in_the_middle_of_a_create() {
    create(Fault::HangsOn).await;
}

/// Fault: libvirtd hangs (SIGSTOP) for 30 s in the middle of a delete. Promise: 1, 7, 8, 10. Result: UNAVAILABLE with a
/// time to try again, reads go on; then it is finished by itself, and nothing is left.
#[tokio::test]
async fn full_libvirtd_hangs_for_30_s_in_the_middle_of_a_delete() {
    delete(Fault::HangsOn).await;
}

/// Fault: libvirtd hangs (SIGSTOP) for 30 s in the middle of a start. Promise: 1, 7, 8, 10. Result: UNAVAILABLE with a
/// time to try again, reads go on; then a repetition works.
#[tokio::test]
async fn libvirtd_hangs_for_30_s_in_the_middle_of_a_start() {
    start(Fault::HangsOn).await;
}

/// Fault: libvirtd hangs (SIGSTOP) for 30 s in the middle of a stop. Promise: 1, 7, 8, 10. Result: UNAVAILABLE with a
/// time to try again, reads go on; then a repetition works.
#[tokio::test]
async fn full_libvirtd_hangs_for_30_s_in_the_middle_of_a_stop() {
    stop(Fault::HangsOn).await;
}

/// Fault: one create is sent 50 times at once, with one request id. Promise: 1. Result: one VM, and each caller is
/// given it.
#[tokio::test]
async fn fifty_times_the_same_create_at_once() {
    let stage = holding(CREATE[0]).await;
    let request = CreateVmRequest { request_id: "same-request".to_owned(), ..mini("same") };
    let mut creates = JoinSet::new();
    for _ in 0..50 {
        let (mut api, request) = (stage.api.clone(), request.clone());
        creates.spawn(async move { api.create_vm(request).await });
    }
    // None can be answered before: the others join.
    stage.agent.held().await.unwrap();
    assert_eq!(names(&stage).await, ["same"]);
    stage.agent.release().await.unwrap();
    let made = creates.join_all().await;
    let made: Vec<CreateVmResponse> = made.into_iter().map(|vm| vm.unwrap().into_inner()).collect();
    assert_eq!(made.len(), 50);
    for vm in &made {
        assert_eq!((&vm.vm_id, &vm.ip_address), (&made[0].vm_id, &made[0].ip_address));
    }
    let again = stage.api.clone().create_vm(request).await.unwrap().into_inner();
    assert_eq!(again.vm_id, made[0].vm_id);
    assert_eq!(names(&stage).await, ["same"]);
    stage.delete(&named("same")).await.unwrap();
    nothing_left(stage).await;
}

/// Fault: a VM is to be deleted, started and stopped while it is made. Promise: 1, 7, 10. Result: ABORTED at once, and
/// the create goes on.
#[tokio::test]
async fn a_verb_while_another_is_under_way() {
    let stage = holding(CREATE[0]).await;
    let vm = named("held");
    let meanwhile = async {
        stage.agent.held().await.unwrap();
        let asked = Instant::now();
        for refused in [
            stage.delete(&vm).await.map(drop),
            stage.start(&vm).await.map(drop),
            stage.cut(&vm).await.map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert_eq!(refused.code(), Code::Aborted, "{refused}");
            assert!(refused.message().contains("under way"), "{refused}");
        }
        assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
        stage.agent.release().await.unwrap();
    };
    let (made, ()) = tokio::join!(stage.create("held"), meanwhile);
    stage.delete(&made.unwrap()).await.unwrap();
    nothing_left(stage).await;
}

/// Fault: SIGTERM in the middle of a create that does not end within `agent.shutdown_timeout`. Promise: 1, 7. Result:
/// exit 0; the next agent undoes it before it answers.
#[tokio::test]
async fn sigterm_in_the_middle_of_a_create_that_does_not_end() {
    for step in steps(&CREATE) {
        let mut stage = holding(step).await;
        let mut api = stage.api.clone();
        let stopping = async {
            stage.agent.held().await.unwrap();
            let told = Instant::now();
            stage.agent.terminate().await.unwrap();
            println!("{step}: ended {:?} after SIGTERM", told.elapsed());
            assert!(told.elapsed() < RECONNECT, "{:?}", told.elapsed());
            stage.agent.until("cut off calls", Duration::ZERO).await.unwrap();
        };
        let (created, ()) = tokio::join!(api.create_vm(mini("cut-off")), stopping);
        assert!(created.is_err(), "a client was told of a VM that will be undone");
        stage.next_agent().await;
        assert_eq!(names(&stage).await, Vec::<String>::new());
        stage.home.ensure_nothing_left().await.unwrap();
        stage.stop().await;
    }
}
