//! `kill -9` of the agent at every step of every verb. Which steps there are is not written down here: a
//! whole run tells, so that a new step is a new death.

use std::time::Duration;

use ghost_e2e::agent::Agent;
use ghost_e2e::failpoint::At;
use ghost_e2e::home::Home;
use ghost_e2e::lab::Lab;
use ghost_e2e::rounds;
use ghost_proto::agentpb::ListVMsRequest;
use tonic::Status;

use crate::stage::{Stage, Vm};

/// Longest time to be what was asked for, once the next agent is there.
const RESUMED: Duration = Duration::from_secs(30);

/// A lab whose VMs need no boot and power off at once.
async fn stage() -> Stage {
    let lab = Lab::start().await.unwrap();
    let home = Home::in_lab(&lab).await.unwrap().with_blank_vms().await.unwrap();
    Stage::of(lab, home.with("VM__STOP_TIMEOUT", "1s")).await
}

impl Stage {
    /// Replaces the agent by one that traces its steps.
    async fn traced(&mut self) {
        self.agent.terminate().await.unwrap();
        self.home.settings.insert("FAILPOINT_TRACE", "1".to_owned());
        self.next_agent().await;
        self.home.settings.remove("FAILPOINT_TRACE");
    }

    /// Replaces the agent by one that dies at that step, lets it come there, and puts the next one in its
    /// place.
    async fn dies_at(&mut self, step: &str, verb: impl AsyncFn(&Self) -> Result<(), Status>) {
        self.agent.terminate().await.unwrap();
        let failing: Agent = self.home.start_failing(step, At::Kill).await.unwrap();
        self.api = self.home.api(&failing).await.unwrap();
        self.agent = failing;
        let answer = verb(self).await;
        assert!(answer.is_err(), "{step}: a dead agent answered");
        self.agent.crashed().await.unwrap();
        self.next_agent().await;
    }

    /// The VM of that name, if there is one.
    async fn find(&self, name: &str) -> Option<Vm> {
        let list =
            self.api.clone().list_v_ms(ListVMsRequest::default()).await.unwrap().into_inner();
        let found = list.vms.into_iter().find(|vm| vm.name == name)?;
        Some(Vm { id: found.vm_id, address: found.ip_address })
    }

    /// The steps of what the traced agent has done since, without repetition of what it waits for.
    fn steps(&self, least: usize) -> Vec<String> {
        let steps = self.agent.steps();
        assert!(steps.len() >= least, "only {steps:?}");
        steps
    }
}

/// Fault: kill -9 of the agent at every step of a create. Promise: 1. Result: the VM is whole, or the next
/// agent has taken back everything before it answers.
#[tokio::test]
async fn the_agent_dies_at_every_step_of_a_create() {
    let mut stage = stage().await;
    stage.traced().await;
    let vm = stage.create("dying").await.unwrap();
    let steps = stage.steps(16);
    stage.delete(&vm).await.unwrap();
    for step in &steps {
        for _ in 0..rounds() {
            stage.dies_at(step, async |stage| stage.create("dying").await.map(drop)).await;
            if let Some(vm) = stage.find("dying").await {
                assert!(step.starts_with("ledger.save:after"), "{step}: not taken back");
                stage.becomes(&vm, "error", RESUMED).await;
                stage.delete(&vm).await.unwrap();
            }
            stage.home.ensure_nothing_left().await.unwrap();
        }
    }
    stage.stop().await;
}

/// Fault: kill -9 of the agent at every step of a delete. Promise: 1. Result: the next agent has finished it
/// before it answers.
#[tokio::test]
async fn the_agent_dies_at_every_step_of_a_delete() {
    let mut stage = stage().await;
    stage.traced().await;
    let vm = stage.create("dying").await.unwrap();
    let made = stage.steps(16).len();
    stage.delete(&vm).await.unwrap();
    let steps = stage.steps(made + 12).split_off(made);
    for step in &steps {
        // The create counted in the traced agent: this one deletes only.
        let step = &alone(step, &steps);
        for _ in 0..rounds() {
            let vm = stage.create("dying").await.unwrap();
            stage.dies_at(step, async |stage| stage.delete(&vm).await.map(drop)).await;
            if let Some(vm) = stage.find("dying").await {
                assert_eq!(step, "ledger.save:before#1", "not finished");
                stage.delete(&vm).await.unwrap();
            }
            stage.home.ensure_nothing_left().await.unwrap();
        }
    }
    stage.stop().await;
}

/// Fault: kill -9 of the agent at every step of a stop and of a start. Promise: 1. Result: once it is recorded,
/// the next agent goes on with it; before, the VM is what it was.
#[tokio::test]
async fn the_agent_dies_at_every_step_of_a_stop_and_of_a_start() {
    let mut stage = stage().await;
    let vm = stage.create("dying").await.unwrap();
    stage.start(&vm).await.unwrap();
    stage.traced().await;
    stage.stop_gracefully(&vm).await.unwrap();
    let stop = stage.steps(8);
    stage.start(&vm).await.unwrap();
    let start = stage.steps(stop.len() + 6).split_off(stop.len());
    for step in &stop {
        let step = &alone(step, &stop);
        for _ in 0..rounds() {
            stage.dies_at(step, async |stage| stage.stop_gracefully(&vm).await.map(drop)).await;
            let then = if step == "ledger.save:before#1" { "running" } else { "stopped" };
            stage.becomes(&vm, then, RESUMED).await;
            if then == "stopped" {
                stage.start(&vm).await.unwrap();
            }
        }
    }
    stage.cut(&vm).await.unwrap();
    for step in &start {
        let step = &alone(step, &start);
        for _ in 0..rounds() {
            stage.dies_at(step, async |stage| stage.start(&vm).await.map(drop)).await;
            let then = if step == "ledger.save:before#1" { "stopped" } else { "running" };
            stage.becomes(&vm, then, RESUMED).await;
            if then == "running" {
                stage.cut(&vm).await.unwrap();
            }
        }
    }
    stage.delete(&vm).await.unwrap();
    stage.stop().await;
}

/// The step as an agent counts it that takes no steps but `all`.
fn alone(step: &str, all: &[String]) -> String {
    let (call, _) = step.rsplit_once('#').unwrap();
    let of_that_call = all.iter().filter(|other| other.starts_with(&format!("{call}#")));
    let n = of_that_call.into_iter().position(|other| other == step).unwrap() + 1;
    format!("{call}#{n}")
}
