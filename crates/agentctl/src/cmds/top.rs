//! What each VM takes, again and again. Invariant: a table is of one moment: all VMs of it are told by
//! one stream of the agent, from its cache.

mod meter;
mod screen;
mod table;

use std::time::{Duration, Instant};

use clap::Args;
use ghost_proto::agentpb::{GetVmStatusResponse, WatchVMsRequest};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::vm::READ_LIMIT;
use crate::cli::{Global, parse_timeout};
use crate::connect::{self, Agent};
use crate::errors::{Exit, Failure, from_status};
use crate::interrupt::until_interrupted;
use crate::output::{Format, emit};
use meter::Meters;
use screen::Screen;
use table::{Row, Table};

/// Options of `top`.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// Time between two tables, such as 5s.
    #[arg(long, default_value = "2s", value_name = "DURATION", value_parser = parse_timeout)]
    interval: Duration,
    /// Print one table and end, as without a terminal and with -o json or yaml; it knows no rates yet.
    #[arg(long)]
    once: bool,
}

/// All VMs at one moment.
#[derive(Debug)]
struct Snapshot {
    at: Instant,
    vms: Vec<GetVmStatusResponse>,
    /// Of what the agent knows, in seconds, while libvirt does not answer it.
    age: Option<u64>,
}

/// Prints or shows the tables.
pub(crate) async fn run(args: &Top, global: &Global) -> Result<Exit, Failure> {
    if args.once || !Screen::usable() || global.output != Format::Table {
        return once(global).await;
    }
    until_interrupted(refresh(args.interval, global)).await
}

async fn once(global: &Global) -> Result<Exit, Failure> {
    let mut source = Source::new(global);
    let snapshot = source.snapshot().await?;
    connect::note_age(snapshot.age);
    let rows = table::rows(&snapshot.vms, &Meters::default());
    match global.output.document(&rows)? {
        Some(text) => emit(&text)?,
        None => emit(&table::draw(&rows))?,
    }
    Ok(Exit::Done)
}

async fn refresh(every: Duration, global: &Global) -> Result<Exit, Failure> {
    let mut source = Source::new(global);
    let mut meters = Meters::default();
    let mut rows: Vec<Row> = Vec::new();
    let mut screen: Option<Screen> = None;
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let notice = match source.snapshot().await {
            Ok(snapshot) => {
                meters.read(&snapshot.vms, snapshot.at);
                rows = table::rows(&snapshot.vms, &meters);
                snapshot.age.map(connect::aged)
            }
            // Whoever never saw a table wants to know why, and an agent that refuses goes on refusing.
            Err(failure) if screen.is_none() || !failure.may_pass() => return Err(failure),
            Err(failure) => Some(failure.text()),
        };
        let now = jiff::Zoned::now().strftime("%H:%M:%S").to_string();
        let table = Table { now: &now, notice: notice.as_deref(), rows: &rows };
        match &mut screen {
            Some(screen) => screen.draw(&table)?,
            None => screen.insert(Screen::enter()?).draw(&table)?,
        }
    }
}

/// Where snapshots come from; connects again when the connection broke.
#[derive(Debug)]
struct Source<'a> {
    global: &'a Global,
    agent: Option<Agent>,
}

impl<'a> Source<'a> {
    fn new(global: &'a Global) -> Self {
        Self { global, agent: None }
    }

    async fn snapshot(&mut self) -> Result<Snapshot, Failure> {
        let agent = match self.agent.take() {
            Some(agent) => agent,
            None => connect::connect(self.global).await?,
        };
        let limit = self.global.timeout.unwrap_or(READ_LIMIT);
        let told = timeout(limit, snapshot(&agent)).await;
        let told = told.map_err(|_| from_status::timed_out(limit))??;
        self.agent = Some(agent);
        Ok(told)
    }
}

/// Reads the begin of a watch: all VMs as they are.
async fn snapshot(agent: &Agent) -> Result<Snapshot, Failure> {
    let ask = WatchVMsRequest { resume_token: String::new() };
    let mut events = agent
        .open(ask, READ_LIMIT, |mut client, ask| async move { client.watch_v_ms(ask).await })
        .await?;
    let mut vms = Vec::new();
    loop {
        let event = events.next().await?;
        match event.kind.as_str() {
            "state" => vms.extend(event.vm),
            "synced" => return Ok(Snapshot { at: Instant::now(), vms, age: events.age }),
            _ => {}
        }
    }
}
