//! What it costs to be seen: the status call with each way of logging and tracing. Invariant: all ways take turns in one run, of
//! the same program on the same VM; each turn is a process of its own, warm before it counts.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use ghost_e2e::agent::Home;
use ghost_e2e::client::mini;
use ghost_e2e::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Child;

use super::{Call, Connections, Tally, closed, count, millis};
use crate::LEVEL;
use crate::report::{Row, Unit};
use crate::samples::Samples;

/// Turns of each way.
const TURNS: usize = 5;
/// Before it counts, and how long it counts.
const WARM: Duration = Duration::from_millis(500);
const TURN: Duration = Duration::from_secs(3);
/// Connections, each with one call under way: so that times are calls' own.
const CONNECTIONS: u32 = 4;
/// More than any host answers.
const READS: &str = "1000000";
/// Longest start and stop.
const SOON: Duration = Duration::from_secs(30);

/// A way of being seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Errors are logged, nothing is traced: the floor.
    Unseen,
    /// A line a call, JSON, to a file.
    Logged,
    /// As that, and what developers want to know.
    LoggedInFull,
    /// A line a call, and a span of each at a collector.
    Traced,
}

impl Way {
    const ALL: [Self; 4] = [Self::Unseen, Self::Logged, Self::LoggedInFull, Self::Traced];

    const fn what(self) -> &'static str {
        match self {
            Self::Unseen => "log level error, no traces",
            Self::Logged => "log level info, JSON to a file",
            Self::LoggedInFull => "log level debug, JSON to a file",
            Self::Traced => "log level info, every call traced",
        }
    }

    const fn level(self) -> &'static str {
        match self {
            Self::Unseen => "error",
            Self::Logged | Self::Traced => "info",
            Self::LoggedInFull => "debug",
        }
    }
}

/// # Errors
/// If something can't be measured.
pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let spans = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&spans);
    // Counts what it is sent and forgets it.
    let collector = ghost_otlp::collect(([127, 0, 0, 1], 0).into(), move |came| {
        let scopes = came.into_iter().flat_map(|of_resource| of_resource.scope_spans);
        counted.fetch_add(scopes.map(|scope| scope.spans.len()).sum(), Ordering::Relaxed);
    })
    .await?;
    // Freed at once: the agents of this run take it.
    let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let home = Home::new().await?.leaves_vms().with_blank_vms().await?;
    let log = home.path().join("agent.log").display().to_string();
    let mut home = home
        .with("GRPC__LISTEN_ADDR", address.to_string())
        .with("LOGGING__OUTPUT", "file")
        .with("LOGGING__FILE", log)
        .with("LOGGING__MAX_SIZE", "10240")
        .with("RATES__CLIENT_READS_PER_S", READS)
        .with("RATES__ALL_READS_PER_S", READS);
    let mut tallies: [Tally; 4] = std::array::from_fn(|_| Tally::default());
    let mut vms = Vec::new();
    for turn in 0..TURNS {
        println!("tracing: turn {} of {TURNS}", turn + 1);
        for (way, tally) in Way::ALL.into_iter().zip(&mut tallies) {
            let endpoint = match way {
                Way::Traced => format!("http://{collector}"),
                Way::Unseen | Way::Logged | Way::LoggedInFull => String::new(),
            };
            home = home.with(LEVEL, way.level()).with("TRACING__OTLP_ENDPOINT", endpoint);
            tally.add(one_turn(&home, address, &mut vms).await?);
        }
    }
    println!("tracing: the collector took {} spans", spans.load(Ordering::Relaxed));
    rows(&tallies)
}

async fn one_turn(home: &Home, at: SocketAddr, vms: &mut Vec<String>) -> anyhow::Result<Tally> {
    let mut agent = start(home)?;
    let operator = home.certs.operator();
    let api = eventually("the agent's door", SOON, async || {
        Ok(ghost_e2e::client::channel(at, &home.certs, &operator).await.ok())
    });
    let mut api = ghost_e2e::client::Client::new(api.await?);
    if vms.is_empty() {
        vms.push(api.create_vm(mini("bench-seen")).await?.into_inner().vm_id);
    }
    let connections = Connections::to(home, at, CONNECTIONS, vms).await?;
    let send = move |caller, n| connections.send(Call::Status, caller, n);
    closed(CONNECTIONS, WARM, send.clone()).await?;
    let tally = closed(CONNECTIONS, TURN, send).await?;
    stop(&mut agent).await?;
    Ok(tally)
}

/// Its log goes to a file: nothing of it says that it is ready.
fn start(home: &Home) -> anyhow::Result<Child> {
    let errors = std::fs::File::create(Path::new(home.path()).join("stderr"))?;
    let mut command = home.command()?;
    Ok(command.stdout(Stdio::null()).stderr(errors).spawn()?)
}

async fn stop(agent: &mut Child) -> anyhow::Result<()> {
    let pid = agent.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    kill_process(pid.context("the agent has ended")?, Signal::TERM)?;
    let ended = tokio::time::timeout(SOON, agent.wait()).await;
    let status = ended.context("the agent does not end")??;
    anyhow::ensure!(status.success(), "the agent ended with {status}");
    Ok(())
}

fn rows(tallies: &[Tally; 4]) -> anyhow::Result<Vec<Row>> {
    let [floor, ..] = tallies;
    let (floor_times, floor_rate) = (millis(&floor.times)?, rate(floor)?);
    let mut rows = Vec::new();
    for (way, tally) in Way::ALL.into_iter().zip(tallies).skip(1) {
        let what = way.what();
        let took = Row::new(format!("status, {what}"), Unit::Millis, millis(&tally.times)?);
        rows.push(took.beside(Way::Unseen.what(), floor_times.clone()));
        let rate = Row::new(format!("  {what}"), Unit::PerSecond, rate(tally)?);
        rows.push(rate.beside(Way::Unseen.what(), floor_rate.clone()));
    }
    let mut failed = Tally::default();
    tallies.iter().for_each(|tally| failed.add(tally.clone()));
    if let Some(reason) = &failed.reason {
        println!("tracing: {} calls failed, the first with {reason}", failed.failed);
    }
    let failed = Samples::new([count(failed.failed)])?;
    rows.push(Row::new("calls that failed", Unit::Count, failed));
    Ok(rows)
}

fn rate(tally: &Tally) -> anyhow::Result<Samples> {
    let span = TURN.as_secs_f64() * count(TURNS);
    Samples::new([count(tally.times.len()) / span])
}
