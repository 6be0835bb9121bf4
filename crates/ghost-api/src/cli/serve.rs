//! Serves until a signal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ghost_api::clock::SystemClock;
use ghost_api::limits::{PerMinute, Rates};
use ghost_api::plane::Settings;
use ghost_api::serve::{Config, STORE, ServeError, Server};
use ghost_api::store::redb::RedbStore;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::filter::LevelFilter;

use super::failure::{Exit, Failure};
use super::{Context, log};

/// How long the end waits for threads that block.
const LEFT_BEHIND: Duration = Duration::from_secs(1);

/// Options of `serve`.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where agents connect.
    #[arg(long, value_name = "IP:PORT", default_value = "0.0.0.0:8080")]
    listen: SocketAddr,
    /// Where monitoring asks for /healthz and /metrics, without TLS.
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8081")]
    http: SocketAddr,
    /// From one heartbeat of an agent to the next, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=3600))]
    heartbeat_interval: u16,
    /// How many days an agent's certificate lives.
    #[arg(long, value_name = "DAYS", default_value_t = 30, value_parser = clap::value_parser!(u16).range(1..=825))]
    certificate_days: u16,
    /// Enrolments accepted in a minute from one address: agents behind one NAT share it. Of all addresses 1200, or
    /// this if it is more.
    #[arg(long, value_name = "N", default_value_t = Rates::default().enrol_per_address)]
    enrolments_per_minute: PerMinute,
    /// From which level on lines are logged; debug has a line for each heartbeat.
    #[arg(long, value_enum, value_name = "LEVEL", default_value_t = Level::Info)]
    log_level: Level,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Error => Self::ERROR,
            Level::Warn => Self::WARN,
            Level::Info => Self::INFO,
            Level::Debug => Self::DEBUG,
        }
    }
}

/// Serves.
pub(super) fn run(args: &Serve, context: Context) -> Result<(), Failure> {
    log::start(args.log_level.into());
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| {
        Failure::local(format!("the system gives no threads or file descriptors: {error}"))
    })?;
    let ended = runtime.block_on(until_a_signal(args, context));
    runtime.shutdown_timeout(LEFT_BEHIND);
    ended
}

async fn until_a_signal(args: &Serve, context: Context) -> Result<(), Failure> {
    let config = Config {
        folder: context.dir,
        listen: args.listen,
        http: Some(args.http),
        socket: context.socket,
        certificate_life: Duration::from_secs(u64::from(args.certificate_days) * 86_400),
        settings: Settings {
            interval: Duration::from_secs(args.heartbeat_interval.into()),
            rates: Rates::default().with_enrolments(args.enrolments_per_minute),
        },
    };
    let no_signals = |error| Failure::local(format!("cannot wait for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    // Without an authority nothing is left behind.
    if !config.folder.join(ghost_api::authority::files::CA.0).exists() {
        let missing = config.folder.join(ghost_api::authority::files::CA.0);
        return Err(failed(&ghost_api::authority::AuthorityError::Missing(missing).into()));
    }
    let store =
        RedbStore::open(&config.folder.join(STORE)).map_err(|error| failed(&error.into()))?;
    let started = Server::start(&config, Arc::new(store), Arc::new(SystemClock)).await;
    let mut server = started.map_err(|error| failed(&error))?;
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        () = server.until_a_part_dies() => {
            Err(Failure::local("the server failed; its log says why"))
        }
    };
    tracing::info!("stopping");
    server.stop().await.map_err(|error| Failure::chain(Exit::Failed, &error))?;
    tracing::info!("stopped");
    ended
}

fn failed(error: &ServeError) -> Failure {
    let exit = match error {
        ServeError::Bind { .. } | ServeError::Socket(_) | ServeError::Open(_) => Exit::Conflict,
        ServeError::Authority(_) | ServeError::Tls(_) | ServeError::Store(_) => Exit::Failed,
    };
    Failure::chain(exit, error)
}

/// Each agent is a file descriptor, and 1024 are the usual soft limit.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files; many agents may not fit");
    }
}
