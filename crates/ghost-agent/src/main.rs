//! `ghost-agent`: runs the daemon, or checks its configuration.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use ghost_agent::config::check::{self, Detail};
use ghost_agent::config::{Config, ConfigErrors, ConfigSource, Loaded};
use ghost_agent::grpc::call::chain;
use ghost_agent::prepare::prepare;
use ghost_agent::{VERSION, daemon, observability};

/// Creates and looks after this host's virtual machines for a Ghost cloud.
#[derive(Debug, Parser)]
#[command(version = VERSION, after_help = "Exit codes: 0 stopped as asked, 1 could not start or failed, 78 the configuration is wrong.")]
struct Cli {
    /// The configuration file [default: /etc/ghost/agent.yaml, which need not exist]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether the configuration would be accepted, and change nothing
    CheckConfig {
        /// Print every value in force and where it comes from
        #[arg(long)]
        show: bool,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let source = ConfigSource::of_process(cli.config);
    match cli.command {
        Some(Command::CheckConfig { show }) => {
            check_config(&source, if show { Detail::Values } else { Detail::Verdict })
        }
        None => run(&source),
    }
}

#[expect(clippy::print_stdout, reason = "the answer to a question on the command line")]
fn check_config(source: &ConfigSource, detail: Detail) -> ExitCode {
    // What it points to is looked at first, so that nothing is called OK that is not.
    if let Ok(Loaded { config, .. }) = Config::load(source)
        && let Err(error) = prepare(&config)
    {
        return refuse(&chain(&error));
    }
    let report = check::run(source, detail);
    print!("{}", report.stdout);
    eprint!("{}", report.stderr);
    ExitCode::from(report.exit_code)
}

fn run(source: &ConfigSource) -> ExitCode {
    let loaded = match Config::load(source) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors.to_string()),
    };
    let prepared = match prepare(&loaded.config) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(&chain(&error)),
    };
    observability::init(&loaded.config.logging);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&format!("the system gives no threads or file descriptors: {error}"));
        }
    };
    match runtime.block_on(daemon::run(loaded, prepared)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let error = chain(error.as_ref());
            tracing::error!(error, "stopped");
            fail(&error)
        }
    }
}

/// The configuration is wrong: trying again does not help.
fn refuse(error: &str) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(ConfigErrors::EXIT_CODE)
}

fn fail(error: &str) -> ExitCode {
    eprintln!("error: {error}");
    ExitCode::FAILURE
}
