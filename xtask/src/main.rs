//! The developer's tasks behind `./dev`. Invariant: a verb that ends with success did everything it names;
//! nothing is skipped silently.
#![expect(clippy::print_stdout, reason = "a command line tool talks on stdout")]

mod bench;
mod build;
mod check;
mod coverage;
mod demo;
mod guest;
mod layers;
mod logging;
mod reliability;
mod rules;
mod run;
mod test;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use run::Stages;

#[derive(Debug, Parser)]
#[command(name = "xtask", bin_name = "cargo xtask", about = "The developer's tasks of Ghost Agent")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The main job: a real VM over mutual TLS, answering at its address
    Demo {
        /// Remove everything that a demo made
        #[arg(long)]
        clean: bool,
    },
    /// agentctl on the demo's agent
    Ctl {
        /// Handed to agentctl as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Format the code
    Fmt,
    /// Format, clippy, rustdoc, layers, rules
    Check(Depth),
    /// The checks, then every test
    Test(Depth),
    /// Fail on a dependency between crates that the design does not draw
    Layers,
    /// Prometheus' rules, the dashboard and the runbook: do they fit together, and do the rules fire?
    Rules,
    /// Make the table of faults in docs/reliability.md from the tests
    Reliability,
    /// Build a test guest; the last line printed is the image's path
    Guest {
        /// Which one
        guest: guest::Guest,
    },
    /// The budgets, each beside its peer; every number goes to target/bench.json
    Bench {
        /// Handed to ghost-bench as they are: `--only load`, `--idle-minutes 10`; `--help` names them all
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Lines covered by all suites over crates/, at least 80 %
    Coverage,
    /// Release binaries of this host's architecture, in build/
    Build,
    /// Release binaries of x86_64 and aarch64, in build/
    BuildAll,
    /// Is this host fit to run VMs?
    Doctor {
        /// Handed to `agentctl doctor` as they are
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Depth {
    /// Also the licences, banned crates and sources of all dependencies
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    let mut stages = Stages::default();
    let outcome = perform(Cli::parse().verb, &mut stages);
    stages.print_table();
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(verb: Verb, stages: &mut Stages) -> anyhow::Result<ExitCode> {
    match verb {
        Verb::Demo { clean: false } => demo::demo(stages, demo::Act::Show),
        Verb::Demo { clean: true } => demo::demo(stages, demo::Act::Clean),
        Verb::Ctl { args } => return demo::ctl(&args),
        Verb::Doctor { args } => return doctor(&args),
        Verb::Fmt => run::cargo(["fmt", "--all"]).wait(),
        Verb::Check(depth) => check::check(stages, depth.into()),
        Verb::Test(depth) => test::test(stages, depth.into()),
        Verb::Layers => layers::check(),
        Verb::Rules => rules::check(),
        Verb::Reliability => reliability::reliability(reliability::Mode::Write),
        Verb::Guest { guest } => guest::ensure(guest).map(|image| println!("{}", image.display())),
        Verb::Bench { args } => bench::bench(stages, &args),
        Verb::Coverage => coverage::coverage(stages),
        Verb::Build => build::host(stages),
        Verb::BuildAll => build::all(stages),
    }
    .map(|()| ExitCode::SUCCESS)
}

/// As the demo and the tests would use this host: with KVM where there is one.
fn doctor(args: &[String]) -> anyhow::Result<ExitCode> {
    run::cargo(["build", "--quiet", "--package", "agentctl"]).wait()?;
    run::command(run::target_dir()?.join("debug/agentctl"))
        .args(["doctor", "--acceleration", "auto"])
        .args(args)
        .exit_code()
}

impl From<Depth> for check::Depth {
    fn from(depth: Depth) -> Self {
        if depth.full { Self::Full } else { Self::Usual }
    }
}
