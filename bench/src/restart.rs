//! Restart → ready. Invariant: timed from before the process is made to the moment that its log line
//! "ready" bears; the state is that of an agent that ran before.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use ghost_e2e::agent::{Agent, Home};
use ghost_proto::agentpb::ListVMsRequest;
use jiff::Timestamp;

use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// The agent's line when its doors are open.
const READY: &str = r#""message":"ready""#;
/// It has been seen already.
const LINE_LIMIT: Duration = Duration::from_secs(1);
/// Longest wait until an agent that is ready lists every VM as running, and between two looks.
const LIST_LIMIT: Duration = Duration::from_secs(30);
const LIST_EVERY: Duration = Duration::from_millis(5);

/// Starts and stops the agent, once more than `starts`: the first start makes the state.
pub(crate) async fn measure(home: &Home, starts: usize) -> anyhow::Result<Vec<Row>> {
    home.start().await?.stop().await?;
    let mut times = Vec::new();
    for _ in 0..starts {
        let exec = Timestamp::now();
        let agent = home.start().await?;
        times.push(millis_between(exec, ready(&agent).await?));
        agent.stop().await?;
    }
    let times = Samples::new(times)?;
    println!("restart → ready: {:.0} ms", times.median());
    let row = Row::new("restart → ready, no VM", Unit::Millis, times);
    Ok(vec![row.budget(Budget::P99AtMost(300.0))])
}

/// Kills the agent and starts the next, `starts` times. Returns the last; it knows all VMs.
pub(crate) async fn with_vms(
    home: &Home,
    mut agent: Agent,
    starts: usize,
    vms: usize,
) -> anyhow::Result<(Agent, Vec<Row>)> {
    let (mut times, mut listed, mut floor) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..starts {
        floor.push(bare_start(home).await?);
        agent.kill().await?;
        let exec = Timestamp::now();
        agent = home.start().await?;
        times.push(millis_between(exec, ready(&agent).await?));
        all_run(home, &agent, vms).await?;
        listed.push(millis_between(exec, Timestamp::now()));
    }
    let (times, floor) = (Samples::new(times)?, Samples::new(floor)?);
    let row = |what: &str, samples| {
        Row::new(format!("{what}, {vms} VMs"), Unit::Millis, samples)
            .beside("ghost-agent --version", floor.clone())
    };
    let rows = vec![
        row("SIGKILL, start → ready", times).budget(Budget::P99AtMost(300.0)),
        row("  … → all listed as running", Samples::new(listed)?),
    ];
    Ok((agent, rows))
}

/// What a start of that program costs at the least.
async fn bare_start(home: &Home) -> anyhow::Result<f64> {
    let clock = Instant::now();
    let ended = home.command()?.arg("--version").output().await?;
    ensure!(ended.status.success(), "ghost-agent --version ended with {}", ended.status);
    Ok(clock.elapsed().as_secs_f64() * 1e3)
}

async fn all_run(home: &Home, agent: &Agent, count: usize) -> anyhow::Result<()> {
    let (mut api, deadline) = (home.api(agent).await?, Instant::now() + LIST_LIMIT);
    loop {
        let vms = api.list_v_ms(ListVMsRequest::default()).await?.into_inner().vms;
        let running = vms.iter().filter(|vm| vm.status == "running").count();
        if running == count {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "the next agent lists {running} of {count} as running");
        tokio::time::sleep(LIST_EVERY).await;
    }
}

fn millis_between(earlier: Timestamp, later: Timestamp) -> f64 {
    later.duration_since(earlier).as_secs_f64() * 1e3
}

async fn ready(agent: &Agent) -> anyhow::Result<Timestamp> {
    let line = agent.until(READY, LINE_LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(line["timestamp"].as_str().context("a log line without a timestamp")?.parse()?)
}
