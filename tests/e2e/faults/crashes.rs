//! The agent dies in the middle of its work.

use ghost_e2e::client::mini;
use ghost_e2e::failpoint::At;
use rustix::process::Signal;

use crate::stage::{SOON, Stage, Vm};

/// Fault: kill -9 of the agent before it defines the domain of a new VM. Promise: 1. Result: the
/// next agent undoes the creation; nothing is left, and the name is free.
#[tokio::test]
async fn the_agent_killed_before_a_domain_is_defined() {
    let mut stage = Stage::failing("hypervisor.define:before", At::Kill).await;
    let mut api = stage.api.clone();
    let (created, crashed) = tokio::join!(api.create_vm(mini("crashed")), stage.agent.crashed());
    crashed.unwrap();
    assert!(created.is_err(), "a client was told of a VM that will be undone");

    stage.next_agent().await;
    let vm = stage.create("crashed").await.unwrap();
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// Fault: SIGTERM while a create holds still before its domain is defined. Promise: 1, 7. Result: the
/// create goes on to its end before the agent ends with exit 0, and the next agent knows the VM.
#[tokio::test]
async fn the_agent_told_to_stop_in_the_middle_of_a_create() {
    let mut stage = Stage::failing("hypervisor.define:before", At::Hold).await;
    let stopping = async {
        stage.agent.held().await?;
        stage.agent.signal(Signal::TERM)?;
        stage.agent.until("stopping", SOON).await?;
        stage.agent.release().await?;
        stage.agent.ended().await
    };
    let mut api = stage.api.clone();
    let (created, ended) = tokio::join!(api.create_vm(mini("held")), stopping);
    let created = created.unwrap().into_inner();
    assert!(ended.unwrap().success());

    stage.next_agent().await;
    let vm = Vm { id: created.vm_id, address: created.ip_address };
    assert_eq!(stage.status(&vm).await.name, "held");
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}
