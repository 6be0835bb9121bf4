//! Restart → ready. Invariant: timed from before the process is made to the moment that its log line
//! "ready" bears; the state is that of an agent that ran before.

use std::time::Duration;

use anyhow::Context as _;
use ghost_e2e::agent::{Agent, Home};
use jiff::Timestamp;

use crate::report::{Budget, Row, Unit};
use crate::samples::Samples;

/// The agent's line when its doors are open.
const READY: &str = r#""message":"ready""#;
/// It has been seen already.
const LINE_LIMIT: Duration = Duration::from_secs(1);

/// Starts and stops the agent, once more than `starts`: the first start makes the state.
pub(crate) async fn measure(home: &Home, starts: usize) -> anyhow::Result<Vec<Row>> {
    home.start().await?.stop().await?;
    let mut times = Vec::new();
    for _ in 0..starts {
        let exec = Timestamp::now();
        let agent = home.start().await?;
        let took = ready(&agent).await?.duration_since(exec);
        times.push(took.as_secs_f64() * 1e3);
        agent.stop().await?;
    }
    let times = Samples::new(times)?;
    println!("restart → ready: {:.0} ms", times.median());
    let row = Row::new("restart → ready, no VM", Unit::Millis, times);
    Ok(vec![row.budget(Budget::P99AtMost(300.0))])
}

async fn ready(agent: &Agent) -> anyhow::Result<Timestamp> {
    let line = agent.until(READY, LINE_LIMIT).await?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    Ok(line["timestamp"].as_str().context("a log line without a timestamp")?.parse()?)
}
