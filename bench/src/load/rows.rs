//! The rows of the load. Invariant: the floor was called in the same seconds and through the same
//! connections (open loop), or in turns of seconds (closed loop).

use std::time::Duration;

use ghost_e2e::agent::{Agent, Home};

use super::{Call, Connections, Opened, Pace, Tally, closed, open};
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// Turns of the closed loop, and how long each kind of call has in one.
const TURNS: u32 = 5;
const TURN: Duration = Duration::from_secs(2);
/// Calls under way on each connection where the connections are kept full.
const FULL: u32 = 8;
/// How long the open loop goes on.
const SPAN: Duration = Duration::from_secs(30);
/// What the open loop sends, one after the other.
const KINDS: [Call; 3] = [Call::Status, Call::List, Call::Health];

/// How much load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Connections over mutual TLS.
    pub(crate) connections: u32,
    /// Of each kind of call, in a second.
    pub(crate) rate: u32,
}

/// Calls the agent about these VMs at the given rate, then as often as it answers.
pub(crate) async fn measure(
    home: &Home,
    agent: &Agent,
    plan: Plan,
    vms: &[String],
) -> anyhow::Result<Vec<Row>> {
    let connections = Connections::open(home, agent, plan.connections, vms).await?;
    println!("load: {} s at {}/s of each kind of call", SPAN.as_secs(), plan.rate);
    let at_rate = at_rate(&connections, plan).await?;
    let mut failed = Tally::default();
    at_rate.kinds.iter().for_each(|kind| failed.add(kind.clone()));
    let mut rows = rate_rows(&at_rate, plan, vms.len())?;
    for each in [1, FULL] {
        println!("load: as many as are answered, {each} at once on each connection");
        let [status, health] = in_turns(&connections, plan.connections * each).await?;
        rows.push(throughput(&status, &health, plan, each)?);
        failed.add(status);
        failed.add(health);
    }
    if let Some(reason) = &failed.reason {
        println!("load: {} calls failed, the first with {reason}", failed.failed);
    }
    let count = Samples::new([count(failed.failed)])?;
    rows.push(Row::new("calls that failed", Unit::Count, count).budget(Budget::P99AtMost(0.0)));
    Ok(rows)
}

async fn at_rate(connections: &Connections, plan: Plan) -> anyhow::Result<Opened<3>> {
    let pace = Pace { per_second: plan.rate * 3, span: SPAN };
    open(pace, |n| {
        let round = n / 3;
        let kind = KINDS.into_iter().nth(n as usize % KINDS.len()).unwrap_or(Call::Health);
        connections.send(kind, n, round)
    })
    .await
}

fn rate_rows(all: &Opened<3>, plan: Plan, vms: usize) -> anyhow::Result<Vec<Row>> {
    let [status, list, health] = &all.kinds;
    let floor = millis(&health.times)?;
    let row = |what, tally: &Tally| -> anyhow::Result<Row> {
        let what = format!("{what} at {}/s, {vms} VMs", plan.rate);
        let row = Row::new(what, Unit::Millis, millis(&tally.times)?);
        Ok(row.required(100.0).budget(Budget::P99AtMost(2.0)).beside("grpc health", floor.clone()))
    };
    Ok(vec![
        row("status", status)?,
        row("list", list)?,
        Row::new("  sent later than planned", Unit::Millis, millis(&all.late)?),
    ])
}

/// Status and health, in turns.
async fn in_turns(connections: &Connections, callers: u32) -> anyhow::Result<[Tally; 2]> {
    let mut both = [Tally::default(), Tally::default()];
    for _ in 0..TURNS {
        for (tally, call) in both.iter_mut().zip([Call::Status, Call::Health]) {
            let connections = connections.clone();
            let send = move |caller, n: u32| connections.send(call, caller, caller.wrapping_add(n));
            tally.add(closed(callers, TURN, send).await?);
        }
    }
    Ok(both)
}

fn throughput(status: &Tally, health: &Tally, plan: Plan, each: u32) -> anyhow::Result<Row> {
    let per_second =
        |tally: &Tally| Samples::new([count(tally.times.len()) / (TURN * TURNS).as_secs_f64()]);
    let what = format!("status, {} connections, {each} at once on each", plan.connections);
    let row = Row::new(what, Unit::PerSecond, per_second(status)?);
    Ok(row.budget(Budget::MedianAtLeast(5000.0)).beside("grpc health", per_second(health)?))
}

/// A count as a value; none comes near 2^53.
pub(crate) fn count(n: usize) -> f64 {
    n as f64
}

/// # Errors
/// If there is none.
pub(crate) fn millis(times: &[Duration]) -> anyhow::Result<Samples> {
    Samples::new(times.iter().map(|time| time.as_secs_f64() * 1e3))
}
