//! Many VMs at once, and the agent beside them while they run. Invariant: whatever is said to be measured
//! with so many VMs was measured while the agent listed exactly so many.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ghost_e2e::agent::{Agent, Home};
use ghost_e2e::client;
use ghost_proto::agentpb::{DeleteVmRequest, ListVMsRequest, StopVmRequest};
use tokio::task::JoinSet;

use crate::creates::interrupted;
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;
use crate::{LEVEL, idle, load, restart, scrape};

/// Under TCG on 2 cores the last of 20 guests has its address after minutes.
const ADDRESS_TIMEOUT: &str = "600s";
/// More than any host answers: what the agent can do is measured, not what it refuses.
const READS: &str = "1000000";
/// Longest wait for all of them: that, and a reserve.
const LIMIT: Duration = Duration::from_secs(900);
/// Without a call before memory and CPU are read.
const REST: Duration = Duration::from_secs(15);
/// How long the agent is watched without a VM.
const WITHOUT: Duration = Duration::from_secs(30);
/// Kills and starts of the agent.
const STARTS: usize = 5;

/// What is to be measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// VMs.
    pub(crate) vms: u32,
    /// How long memory and CPU are watched.
    pub(crate) idle: Duration,
    /// The load.
    pub(crate) load: load::Plan,
}

/// Creates the VMs, measures beside them and deletes them.
///
/// # Errors
/// If something can't be measured; a create that failed is a row.
pub(crate) async fn measure(plan: Plan) -> anyhow::Result<Vec<Row>> {
    let home = Home::new().await?.leaves_vms().with(LEVEL, "info");
    let home = home
        .with("VM__ADDRESS_TIMEOUT", ADDRESS_TIMEOUT)
        .with("RATES__CLIENT_READS_PER_S", READS)
        .with("RATES__ALL_READS_PER_S", READS);
    tokio::select! {
        rows = all(&home, plan) => rows,
        by = interrupted() => Err(by.map_or_else(Into::into, |by| anyhow::anyhow!("stopped by {by}"))),
    }
}

async fn all(home: &Home, plan: Plan) -> anyhow::Result<Vec<Row>> {
    let agent = home.start().await?;
    fill_the_cache(home, &agent).await?;
    println!("idle: {} s without a VM or a call", (REST + WITHOUT).as_secs());
    let without = idle::watch(&agent, REST, WITHOUT).await?;
    let mut rows = Vec::new();
    let (vms, created) = create(home, &agent, plan.vms).await?;
    tell(&mut rows, created);
    if vms.len() != plan.vms as usize {
        println!("not all VMs were created: there is nothing to measure beside them");
        return Ok(rows);
    }
    println!("idle: {} s with {} VMs", (REST + plan.idle).as_secs(), vms.len());
    let with = idle::watch(&agent, REST, plan.idle).await?;
    tell(&mut rows, idle::with_vms(vms.len(), &with, &without)?);
    tell(&mut rows, load::measure(home, &agent, plan.load, &vms).await?);
    tell(&mut rows, vec![scrape::measure(&agent, vms.len()).await?]);
    let after = idle::watch(&agent, Duration::ZERO, Duration::ZERO).await?;
    tell(&mut rows, vec![idle::after_load(vms.len(), &after, &with)?]);
    println!("restart: {STARTS} kills with {} VMs", vms.len());
    let (agent, restarted) = restart::with_vms(home, agent, STARTS, vms.len()).await?;
    tell(&mut rows, restarted);
    tell(&mut rows, vec![delete(home, &agent, &vms).await?]);
    agent.stop().await?;
    Ok(rows)
}

/// Says what was measured at once: the table comes minutes later.
fn tell(rows: &mut Vec<Row>, new: Vec<Row>) {
    new.iter().for_each(|row| println!("    {}", row.line()));
    rows.extend(new);
}

/// One VM that comes and goes: the others are not to wait for the image.
async fn fill_the_cache(home: &Home, agent: &Agent) -> anyhow::Result<()> {
    let mut api = home.api(agent).await?;
    let vm_id = api.create_vm(client::mini("bench-first")).await?.into_inner().vm_id;
    api.delete_vm(DeleteVmRequest { vm_id }).await?;
    Ok(())
}

/// Returns the ids of those that run.
async fn create(home: &Home, agent: &Agent, vms: u32) -> anyhow::Result<(Vec<String>, Vec<Row>)> {
    println!("create: {vms} at once");
    let api = home.api(agent).await?;
    let (mut creates, clock) = (JoinSet::new(), Instant::now());
    for n in 0..vms {
        let mut api = api.clone();
        creates.spawn(async move {
            let created = api.create_vm(client::mini(&format!("bench-{n}"))).await;
            (created, clock.elapsed())
        });
    }
    let ended = tokio::time::timeout(LIMIT, creates.join_all()).await;
    let ended = ended.with_context(|| format!("no end after {} s", LIMIT.as_secs()))?;
    let (mut ids, mut times) = (Vec::new(), Vec::new());
    for (created, took) in ended {
        match created.map(tonic::Response::into_inner) {
            Ok(vm) if vm.status == "running" => {
                ids.push(vm.vm_id);
                times.push(took);
            }
            Ok(vm) => println!("create: {} is {}: {}", vm.vm_id, vm.status, vm.error),
            Err(status) => println!("create: {status}"),
        }
    }
    ensure!(!ids.is_empty(), "none of {vms} VMs was created");
    let listed = api.clone().list_v_ms(ListVMsRequest::default()).await?.into_inner().vms;
    ensure!(
        listed.len() == ids.len(),
        "{} were created and {} are listed",
        ids.len(),
        listed.len()
    );
    let rows = created_rows(vms, &times)?;
    Ok((ids, rows))
}

fn created_rows(vms: u32, times: &[Duration]) -> anyhow::Result<Vec<Row>> {
    let seconds = Samples::new(times.iter().map(Duration::as_secs_f64))?;
    let all = Samples::new([seconds.worst()])?;
    let made = Samples::new(u32::try_from(times.len()).map(f64::from))?;
    let what = |what: &str| format!("{vms} creates at once: {what}");
    Ok(vec![
        Row::new(what("VMs that run"), Unit::Count, made)
            .budget(Budget::MedianAtLeast(f64::from(vms))),
        Row::new(what("until the last has its address"), Unit::Seconds, all),
        Row::new(what("until each has its address"), Unit::Seconds, seconds),
    ])
}

/// Cuts their power, then deletes one after the other.
async fn delete(home: &Home, agent: &Agent, vms: &[String]) -> anyhow::Result<Row> {
    println!("delete: one after the other");
    let mut api = home.api(agent).await?;
    for vm_id in vms {
        api.stop_vm(StopVmRequest { vm_id: vm_id.clone(), force: true }).await?;
    }
    let mut times = Vec::new();
    for vm_id in vms {
        let clock = Instant::now();
        api.delete_vm(DeleteVmRequest { vm_id: vm_id.clone() }).await?;
        times.push(clock.elapsed().as_secs_f64() * 1e3);
    }
    home.ensure_nothing_left().await?;
    let row = Row::new("delete, powered off", Unit::Millis, Samples::new(times)?);
    Ok(row.budget(Budget::MedianAtMost(300.0)))
}
