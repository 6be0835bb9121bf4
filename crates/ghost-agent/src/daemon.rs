//! From start to shutdown.
//!
//! ```text
//! HTTP answers ▶ ledger locked ▶ libvirt (present or not) ▶ ledger read ▶ both reconciled ▶ doors open ▶ … signal …
//!   ▶ no new calls ▶ calls under way end, within the limit ▶ state written ▶ libvirt closed
//! ```
//! No step touches a guest: VMs outlive the agent.

mod shown;
mod start;

use std::time::Duration;

use anyhow::Context as _;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Loaded;
use crate::grpc::server::ServerError;
use crate::observability::logging::Hangups;
use crate::observability::{Observability, tracing as traces};
use crate::prepare::Prepared;
use crate::service_manager::ServiceManager;
use crate::wiring::Parts;
use start::Given;

/// How long the background tasks may take to notice that they are to end.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What kept the daemon from starting, with its remedy, or which part of it died.
pub async fn run(
    loaded: Loaded,
    prepared: Prepared,
    observability: Observability,
    hangups: Hangups,
) -> anyhow::Result<()> {
    let config = &loaded.config;
    tracing::info!(version = crate::VERSION, name = config.agent.name, "starting");
    loaded.notes.iter().for_each(|note| tracing::warn!("{note}"));
    let mut signals = Signals::new().context("cannot receive signals")?;
    let given = Given { loaded: &loaded, prepared, observability, hangups };
    let mut running = tokio::select! {
        started = Running::start(given) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "told to stop before the start was complete");
            return Ok(());
        }
    };
    let manager = ServiceManager::of_process();
    tracing::info!("ready");
    manager.ready();
    let end = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, limit = ?config.agent.shutdown_timeout, "stopping; guests run on");
            Ok(())
        }
        died = running.until_a_part_dies() => Err(died),
    };
    manager.stopping();
    tokio::select! {
        () = running.shut_down(config.agent.shutdown_timeout) => {}
        signal = signals.next() => {
            tracing::warn!(signal, "told to stop again: leaving at once; the next start undoes or finishes what is under way");
        }
    }
    end
}

/// The daemon while it runs.
struct Running {
    parts: Parts,
    /// Cancelled first: the doors close, the server answers what is under way.
    closing: CancellationToken,
    /// Cancelled when no call needs libvirt's events any more.
    watched: CancellationToken,
    background: TaskTracker,
    serving: JoinHandle<Result<(), ServerError>>,
    watching: JoinHandle<Option<()>>,
    traces: Option<traces::Running>,
}

impl Running {
    /// Only if something is wrong: both parts run until they are told to end.
    async fn until_a_part_dies(&mut self) -> anyhow::Error {
        tokio::select! {
            ended = &mut self.serving => match ended {
                Ok(Err(error)) => error.into(),
                Ok(Ok(())) => anyhow::anyhow!("the gRPC server ended by itself"),
                Err(died) => anyhow::Error::new(died).context("the gRPC server died"),
            },
            ended = &mut self.watching => match ended {
                Ok(_) => anyhow::anyhow!("the watch of libvirt ended by itself"),
                Err(died) => anyhow::Error::new(died).context("the watch of libvirt died"),
            },
        }
    }

    async fn shut_down(self, limit: Duration) {
        let Self { parts, closing, watched, background, traces, .. } = self;
        parts.api.tasks.close();
        parts.api.closing.cancel();
        closing.cancel();
        background.close();
        let cut_off = tokio::time::timeout(limit, parts.api.tasks.wait()).await.is_err();
        watched.cancel();
        if cut_off {
            // The server would wait for their answers: it is not waited for.
            tracing::warn!(
                calls = parts.api.tasks.len(),
                "cut off calls that took longer than agent.shutdown_timeout; the next start undoes or finishes them"
            );
        } else if tokio::time::timeout(BACKGROUND_LIMIT, background.wait()).await.is_err() {
            tracing::warn!("connections stayed open; closing them");
        }
        parts.stop().await;
        if let Some(traces) = traces {
            traces.end().await;
        }
        tracing::info!("stopped");
    }
}

/// The signals that end the daemon.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
