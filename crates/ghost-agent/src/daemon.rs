//! From start to shutdown.
//!
//! ```text
//! ledger locked ▶ libvirt (present or not) ▶ ledger read ▶ doors open ▶ … signal …
//!   ▶ no new calls ▶ calls under way end, within the limit ▶ state written ▶ libvirt closed
//! ```
//! No step touches a guest: VMs outlive the agent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener as Tcp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Grpc, Loaded, TcpListener};
use crate::grpc::access::Access;
use crate::grpc::listen::Security;
use crate::grpc::{Listeners, server, unix};
use crate::prepare::Prepared;
use crate::wiring::Parts;

/// How long the background tasks may take to notice that they are to end.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What kept the daemon from starting, with its remedy.
pub async fn run(loaded: Loaded, prepared: Prepared) -> anyhow::Result<()> {
    let Loaded { config, notes, .. } = loaded;
    tracing::info!(version = crate::VERSION, name = config.agent.name, "starting");
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let mut signals = Signals::new().context("cannot receive signals")?;
    let (background, closing) = (TaskTracker::new(), CancellationToken::new());
    let parts = Parts::start(&config, prepared.catalog).await?;
    let doors = open(&config.grpc, prepared.tls, &background, &closing).await?;
    let watching = parts.watch();
    background.spawn(closing.clone().run_until_cancelled_owned(watching));
    let access = Access::new(config.grpc.allowed_clients.iter().map(ToString::to_string));
    let serving = server::serve(parts.api.clone(), access, doors, closing.clone());
    let serving = background.spawn(serving);
    tracing::info!("ready");

    let signal = signals.next().await;
    tracing::info!(signal, limit = ?config.agent.shutdown_timeout, "stopping; guests run on");
    shut_down(&config, parts, background, closing).await;
    if serving.is_finished() {
        serving.await.context("the gRPC server died")??;
    }
    Ok(())
}

async fn open(
    grpc: &Grpc,
    tls: Option<Arc<rustls::ServerConfig>>,
    tasks: &TaskTracker,
    closing: &CancellationToken,
) -> anyhow::Result<
    tokio_stream::wrappers::ReceiverStream<std::io::Result<crate::grpc::listen::Connection>>,
> {
    let (listeners, connections) = Listeners::new(tasks.clone(), closing.clone());
    match &grpc.tcp {
        TcpListener::Tls { address, .. } | TcpListener::Plain { address } => {
            let security = tls.map_or(Security::Plain, Security::Tls);
            listeners.tcp(bind(*address).await?, security);
        }
        TcpListener::Off { .. } => {}
    }
    if let Some(path) = &grpc.unix_socket {
        listeners.unix(unix::bind(path)?);
        tracing::info!(socket = %path.display(), "listening");
    }
    Ok(connections)
}

async fn bind(address: std::net::SocketAddr) -> anyhow::Result<Tcp> {
    let listener = Tcp::bind(address).await.with_context(|| {
        format!("grpc.listen_addr {address}: cannot listen there; choose an address of this host and a free port (see who has it: ss -ltnp)")
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

async fn shut_down(
    config: &Config,
    parts: Parts,
    background: TaskTracker,
    closing: CancellationToken,
) {
    parts.api.tasks.close();
    closing.cancel();
    background.close();
    let limit = config.agent.shutdown_timeout;
    if tokio::time::timeout(limit, parts.api.tasks.wait()).await.is_err() {
        // The server would wait for their answers: it is not waited for.
        tracing::warn!(
            calls = parts.api.tasks.len(),
            "cut off calls that took longer than agent.shutdown_timeout; the next start undoes or finishes them"
        );
    } else if tokio::time::timeout(BACKGROUND_LIMIT, background.wait()).await.is_err() {
        tracing::warn!("connections stayed open; closing them");
    }
    parts.stop().await;
    tracing::info!("stopped");
}

/// The signals that end the daemon.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
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
