//! Reads over mutual TLS, one after the other on one connection, in turns with a call that does nothing.
//! Invariant: the VM they ask about is stopped, so that no guest takes their CPU.

use std::time::{Duration, Instant};

use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client;
use ghost_proto::agentpb::{GetVmStatusRequest, ListVMsRequest, StopVmRequest};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;

use crate::creates::Agents;
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// The name the agent's health is known by.
pub(crate) const SERVICE: &str = "agentpb.AgentService";

/// Times of each kind of call.
#[derive(Debug, Default)]
struct Times {
    status: Vec<Duration>,
    list: Vec<Duration>,
    health: Vec<Duration>,
}

/// Makes one VM, stops it, and calls `calls` times each.
pub(crate) async fn measure(home: &Home, agent: &Agent, calls: usize) -> anyhow::Result<Vec<Row>> {
    let client = client::operator(agent.address()?, &home.certs).await?;
    let mut agents = Agents::new(agent, client);
    let times = match agents.create("bench-calls").await {
        Ok(vm) => call(home, agent, &vm.vm_id, calls).await,
        Err(error) => Err(error),
    };
    agents.delete_all().await?;
    let times = times?;
    let floor = millis(&times.health)?;
    let row = |what, own: &[Duration]| -> anyhow::Result<Row> {
        let row = Row::new(what, Unit::Millis, millis(own)?);
        Ok(row.required(100.0).budget(Budget::P99AtMost(2.0)).beside("grpc health", floor.clone()))
    };
    Ok(vec![
        row("status over mTLS, 1 VM", &times.status)?,
        row("list over mTLS, 1 VM", &times.list)?,
    ])
}

async fn call(home: &Home, agent: &Agent, id: &str, calls: usize) -> anyhow::Result<Times> {
    let channel = client::channel(agent.address()?, &home.certs, &home.certs.operator()).await?;
    let mut api = client::Client::new(channel.clone());
    let mut health = HealthClient::new(channel);
    api.stop_vm(StopVmRequest { vm_id: id.to_owned(), force: true }).await?;
    println!("calls: {calls} of each kind");
    let mut times = Times::default();
    for _ in 0..calls {
        let clock = Instant::now();
        api.get_vm_status(GetVmStatusRequest { vm_id: id.to_owned() }).await?;
        times.status.push(clock.elapsed());
        let clock = Instant::now();
        api.list_v_ms(ListVMsRequest::default()).await?;
        times.list.push(clock.elapsed());
        let clock = Instant::now();
        health.check(HealthCheckRequest { service: SERVICE.to_owned() }).await?;
        times.health.push(clock.elapsed());
    }
    Ok(times)
}

fn millis(times: &[Duration]) -> anyhow::Result<Samples> {
    Samples::new(times.iter().map(|time| time.as_secs_f64() * 1e3))
}
