//! `ghost-agent`: runs the daemon, or checks its configuration.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use ghost_agent::config::check::{self, Detail};
use ghost_agent::config::{Config, ConfigErrors, ConfigSource, Loaded};
use ghost_agent::control_plane::files;
use ghost_agent::grpc::call::chain;
use ghost_agent::observability::Observability;
use ghost_agent::observability::logging::Hangups;
use ghost_agent::prepare::prepare;
use ghost_agent::{VERSION, daemon};

/// The exit code of an agent that could not start, or failed.
const FAILED: u8 = 1;
/// How long the end waits for threads that block.
const LEFT_BEHIND: Duration = Duration::from_secs(1);
/// How long the end waits for the log's last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

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
            let detail = if show { Detail::Values } else { Detail::Verdict };
            ExitCode::from(check_config(&source, detail))
        }
        None => {
            ghost_libvirt::share_heaps();
            ghost_libvirt::leave(run(&source))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the answer to a question on the command line")]
fn check_config(source: &ConfigSource, detail: Detail) -> u8 {
    // What it points to is looked at first, so that nothing is called OK that is not.
    if let Ok(Loaded { config, .. }) = Config::load(source)
        && let Err(error) = prepare(&config)
    {
        return refuse(&chain(&error));
    }
    let report = check::run(source, detail);
    print!("{}", report.stdout);
    eprint!("{}", report.stderr);
    report.exit_code
}

/// Runs the daemon, and gives its exit code.
fn run(source: &ConfigSource) -> u8 {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return fail(&format!("the system gives no threads or file descriptors: {error}"));
        }
    };
    // First of all: a SIGHUP to an agent that does not await it yet would end it.
    let hangups = match Hangups::awaited(&runtime) {
        Ok(hangups) => hangups,
        Err(error) => return fail(&format!("cannot receive signals: {error}")),
    };
    let loaded = match Config::load(source) {
        Ok(loaded) => loaded,
        Err(errors) => return refuse(&errors.to_string()),
    };
    if let Err(error) = files::recover(&loaded.config.grpc.files) {
        return refuse(&chain(&error));
    }
    let prepared = match prepare(&loaded.config) {
        Ok(prepared) => prepared,
        Err(error) => return refuse(&chain(&error)),
    };
    let observability = match Observability::begin(&loaded.config) {
        Ok(observability) => observability,
        Err(error) => return refuse(&chain(&error)),
    };
    let log = observability.log.clone();
    let ended = runtime.block_on(daemon::run(loaded, prepared, observability, hangups));
    // What still blocks a thread, such as a file system that hangs, is not waited for.
    runtime.shutdown_timeout(LEFT_BEHIND);
    let code = match ended {
        Ok(()) => 0,
        Err(error) => {
            let error: &(dyn std::error::Error + 'static) = error.as_ref();
            tracing::error!(error, "stopped");
            // Nobody needs it twice in the journal.
            if log.is_in_journal() { FAILED } else { fail(&chain(error)) }
        }
    };
    log.flush(LAST_LINES);
    code
}

/// The configuration is wrong: trying again does not help.
fn refuse(error: &str) -> u8 {
    eprintln!("{error}");
    ConfigErrors::EXIT_CODE
}

fn fail(error: &str) -> u8 {
    eprintln!("error: {error}");
    FAILED
}
