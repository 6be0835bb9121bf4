//! The reference control plane. Invariant: a heartbeat counts as arrived only if both sides say so: the
//! agent was answered, and the control plane counted it.

mod simulated;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ghost_e2e::plane::Plane;
use tokio::task::JoinSet;

use crate::creates::interrupted;
use crate::idle::Usage;
use crate::load::{Opened, Pace, count, millis, open};
use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;
use simulated::Simulated;

/// Seconds from one heartbeat of an agent to the next; the least that the control plane can ask for.
const INTERVAL: u16 = 1;
/// Heartbeats of the one agent.
const BEATS: u32 = 500;
/// How long all agents beat.
const SPAN: Duration = Duration::from_secs(30);
/// Agents that join at the same time; the control plane lets eight handshakes of one address be under way.
const AT_ONCE: u32 = 4;
/// In the control plane's metrics.
const HEARD: &str = "ghost_api_heartbeats_total";

/// One agent alone, then that many.
///
/// # Errors
/// If something can't be measured.
pub(crate) async fn measure(agents: u32) -> anyhow::Result<Vec<Row>> {
    tokio::select! {
        rows = all(agents) => rows,
        by = interrupted() => Err(by.map_or_else(Into::into, |by| anyhow::anyhow!("stopped by {by}"))),
    }
}

async fn all(agents: u32) -> anyhow::Result<Vec<Row>> {
    let plane = Arc::new(Plane::start_for(INTERVAL, agents.saturating_add(1)).await?);
    let first = Simulated::join(&plane, 0).await?;
    let mut rows = vec![one(&first).await?];
    let empty = usage(&plane)?;
    println!("plane: {agents} agents enrol and register");
    let began = Instant::now();
    let crowd = crowd(&plane, agents).await?;
    println!(
        "plane: they took {:.0} s; now each beats every {INTERVAL} s",
        began.elapsed().as_secs_f64()
    );
    rows.extend(many(&plane, crowd, &empty).await?);
    Ok(rows)
}

/// Heartbeats one after another, in turns with the floor.
async fn one(agent: &Simulated) -> anyhow::Result<Row> {
    let (mut beats, mut floor) = (Vec::new(), Vec::new());
    for _ in 0..BEATS {
        let sent = Instant::now();
        agent.clone().beat().await?;
        beats.push(sent.elapsed());
        let sent = Instant::now();
        agent.knock().await?;
        floor.push(sent.elapsed());
    }
    let row = Row::new("heartbeat, one agent", Unit::Millis, millis(&beats)?);
    Ok(row.budget(Budget::P99AtMost(10.0)).beside("empty gRPC call", millis(&floor)?))
}

async fn crowd(plane: &Arc<Plane>, agents: u32) -> anyhow::Result<Arc<[Simulated]>> {
    let mut joining = JoinSet::new();
    for lane in 0..AT_ONCE {
        let plane = Arc::clone(plane);
        joining.spawn(async move {
            let mut joined = Vec::new();
            for number in (1..=agents).filter(|number| number % AT_ONCE == lane) {
                joined.push(Simulated::join(&plane, number).await?);
            }
            anyhow::Ok(joined)
        });
    }
    let mut all = Vec::new();
    while let Some(joined) = joining.join_next().await {
        all.extend(joined??);
    }
    Ok(all.into())
}

async fn many(plane: &Plane, crowd: Arc<[Simulated]>, empty: &Usage) -> anyhow::Result<Vec<Row>> {
    let agents = u32::try_from(crowd.len())?;
    let pace = Pace { per_second: agents / u32::from(INTERVAL), span: SPAN };
    let heard_before = plane.counted(HEARD).await?;
    let before = usage(plane)?;
    let began = Instant::now();
    let sent: Opened<1> = open(pace, |n| {
        // Each has its own moment in every second.
        let agent = crowd.get(n as usize % crowd.len()).cloned();
        async move {
            match agent {
                Some(agent) => agent.beat().await,
                None => Err(tonic::Status::internal("no agents")),
            }
        }
    })
    .await?;
    let (took, after) = (began.elapsed(), usage(plane)?);
    let heard = plane.counted(HEARD).await? - heard_before;
    let online = online(plane).await?;
    rows(&Many { agents, sent, heard, online, took, usages: [*empty, before, after] })
}

/// What was seen of all agents.
struct Many {
    agents: u32,
    sent: Opened<1>,
    /// Heartbeats that the control plane counted.
    heard: u64,
    /// Agents that it sees online after them; the one that was alone fell silent long ago.
    online: usize,
    took: Duration,
    /// The control plane with one agent, with all of them silent, and after their heartbeats.
    usages: [Usage; 3],
}

fn rows(many: &Many) -> anyhow::Result<Vec<Row>> {
    let Many { agents, sent: Opened { kinds: [beats], late }, heard, online, took, usages } = many;
    let [empty, before, after] = usages;
    if let Some(reason) = &beats.reason {
        println!("plane: {} heartbeats failed, the first with {reason}", beats.failed);
    }
    let named = |what: &str| format!("{agents} agents: {what}");
    let single = |what: &str, unit, value| -> anyhow::Result<Row> {
        Ok(Row::new(named(what), unit, Samples::new([value])?))
    };
    let answered = count(beats.times.len());
    let seconds = took.as_secs_f64();
    let lost = lost(late.len(), beats.times.len(), usize::try_from(*heard)?);
    let busy = (after.cpu_ms - before.cpu_ms) / (seconds * 1e3) * 100.0;
    let before = Samples::new([before.resident()])?;
    let kb_each = (after.resident() - empty.resident()) * 1e3 / f64::from(*agents);
    println!("plane: {kb_each:.1} kB resident for each agent");
    Ok(vec![
        Row::new(named("heartbeat"), Unit::Millis, millis(&beats.times)?)
            .budget(Budget::P99AtMost(10.0)),
        Row::new("  sent later than planned", Unit::Millis, millis(late)?),
        single("heartbeats sent", Unit::Count, count(late.len()))?,
        single("heartbeats lost", Unit::Count, count(lost))?.budget(Budget::P99AtMost(0.0)),
        single("seen online after it", Unit::Count, count(*online))?
            .budget(Budget::MedianAtLeast(f64::from(*agents))),
        single("heartbeats answered", Unit::PerSecond, answered / seconds)?,
        single("the control plane, of one core", Unit::Percent, busy)?,
        single("the control plane, resident", Unit::Megabytes, after.resident())?
            .beside("before the heartbeats", before),
        Row::new(
            "one agent: the control plane, resident",
            Unit::Megabytes,
            Samples::new([empty.resident()])?,
        ),
    ])
}

/// Of those sent, the ones that only one side knows of, or none.
fn lost(sent: usize, answered: usize, heard: usize) -> usize {
    sent.saturating_sub(answered.min(heard))
}

fn usage(plane: &Plane) -> anyhow::Result<Usage> {
    Usage::of_process(plane.pid()?.as_raw_nonzero())
}

/// How many agents its operators see online.
async fn online(plane: &Plane) -> anyhow::Result<usize> {
    let agents = plane.json(&["agents"]).await?;
    let all = agents.as_array().into_iter().flatten();
    Ok(all.filter(|agent| agent["status"] == "online").count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_of_which_one_side_does_not_know_is_lost() {
        assert_eq!(lost(10, 10, 10), 0);
        assert_eq!(lost(10, 8, 10), 2);
        assert_eq!(lost(10, 10, 7), 3);
    }
}
