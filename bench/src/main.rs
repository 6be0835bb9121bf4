//! The budgets, each measured beside its peer or its floor in one run. Invariant: a number that is
//! printed was measured in this run on this host, and whatever the run made is gone when it ends.
//!
//! `./dev bench` builds the release binaries and the guest and says where they are, in the
//! variables that the end-to-end tests read too.
#![expect(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod calls;
mod creates;
mod crowd;
mod idle;
mod images;
mod load;
mod plane;
mod report;
mod restart;
mod samples;
mod scrape;
mod tap;
mod virsh;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use ghost_e2e::agent::Home;

use report::{Host, Report, Row};
use tap::Tap;

/// The configuration's keys of which the bench sets another value than the tests.
const LEVEL: &str = "LOGGING__LEVEL";
const LIBVIRT: &str = "LIBVIRT__URI";
/// Without load before memory and CPU are read, and the span over which the CPU is read.
const IDLE: Duration = Duration::from_secs(30);
/// Starts of the agent.
const STARTS: usize = 5;
/// Calls of each kind.
const CALLS: usize = 2000;

#[derive(Debug, Parser)]
#[command(name = "ghost-bench", about = "The budgets, each measured beside its peer or its floor")]
struct Cli {
    /// VMs made by the agent, and as many by bare libvirt calls
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// One part alone
    #[arg(long)]
    only: Option<Part>,
    /// VMs that run while the load is on
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100))]
    vms: u32,
    /// How long the agent is watched while they run and nobody calls
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1440))]
    idle_minutes: u32,
    /// Connections over mutual TLS that the load is spread over
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=64))]
    connections: u32,
    /// Calls of each kind in a second, where the load is at a rate
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=2000))]
    rate: u32,
    /// Agents that are simulated; each beats once a second
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=5000))]
    agents: u32,
    /// Where to write every number as JSON
    #[arg(long)]
    json: PathBuf,
    /// Fail if a budget is not kept
    #[arg(long)]
    enforce: bool,
}

/// What can be measured alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// One VM at a time beside its floor and its peer, and the agent without VMs
    Creates,
    /// Many VMs at once, and load on the agent while they run
    Load,
    /// Fetching and hashing a full Debian 12, and creates of it
    Images,
    /// The reference control plane: one agent's heartbeat, then a thousand agents
    Plane,
    /// The status call with each way of logging and tracing
    Tracing,
}

impl Cli {
    fn has(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }

    fn crowd(&self) -> crowd::Plan {
        crowd::Plan {
            vms: self.vms,
            idle: Duration::from_secs(60) * self.idle_minutes,
            load: load::Plan { connections: self.connections, rate: self.rate },
        }
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    // A run that fails must not leave the numbers of another.
    let _ = std::fs::remove_file(&cli.json);
    let report = match measure(&cli).await {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report.table());
    if let Err(error) = report.write(&cli.json) {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    println!("every sample: {}", cli.json.display());
    if cli.enforce && report.is_over() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn measure(cli: &Cli) -> anyhow::Result<Report> {
    let mut host = Host::look().await?;
    let mut rows = Vec::new();
    if cli.has(Part::Creates) {
        rows.extend(creates_and_calls(cli.rounds).await?);
    }
    if cli.has(Part::Load) {
        rows.extend(crowd::measure(cli.crowd()).await?);
    }
    if cli.has(Part::Images) {
        rows.extend(images::measure().await?);
    }
    if cli.has(Part::Plane) {
        rows.extend(plane::measure(cli.agents).await?);
    }
    if cli.has(Part::Tracing) {
        rows.extend(load::observed::measure().await?);
    }
    host.look_again()?;
    let rows = rows.into_iter().map(Row::judged).collect();
    Ok(Report { host, rounds: cli.rounds, rows })
}

async fn creates_and_calls(rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    // The create rounds read the agent's debug lines and its calls to libvirt; everything else is measured as it runs by default.
    // A benchmark that fails says why itself; its VMs go with their home.
    let busy_home = Home::new().await?.leaves_vms();
    let quiet_home = Home::new().await?.leaves_vms().with(LEVEL, "info");
    let tap = Tap::open(busy_home.path())?;
    let busy_home = busy_home.with(LIBVIRT, tap.uri());
    rows.extend(restart::measure(&quiet_home, STARTS).await?);
    let busy = busy_home.start().await?;
    rows.extend(creates::measure(&busy_home, &busy, &tap, rounds).await?);
    let quiet = quiet_home.start().await?;
    println!("idle: {} s without a call", 2 * IDLE.as_secs());
    rows.extend(idle::measure(&busy, &quiet, IDLE).await?);
    busy.stop().await?;
    rows.extend(calls::measure(&quiet_home, &quiet, CALLS).await?);
    quiet.stop().await?;
    Ok(rows)
}
