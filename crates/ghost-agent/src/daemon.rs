//! From start to shutdown.
//!
//! ```text
//! ledger locked ▶ libvirt (present or not) ▶ ledger read ▶ both reconciled ▶ doors open ▶ … signal …
//!   ▶ no new calls ▶ calls under way end, within the limit ▶ state written ▶ libvirt closed
//! ```
//! No step touches a guest: VMs outlive the agent.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ghost_host::Tailscale;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Grpc, ListenAddr, Loaded, TcpListener};
use crate::grpc::access::Access;
use crate::grpc::doors::{self, Doors};
use crate::grpc::listen::{Callers, Security};
use crate::grpc::server::ServerError;
use crate::grpc::{Listeners, server, unix};
use crate::identity::Identity;
use crate::prepare::Prepared;
use crate::vpn::VpnWatch;
use crate::wiring::Parts;

/// How long the background tasks may take to notice that they are to end.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(2);

/// How long the start waits for VMs to be reconciled with libvirt.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What kept the daemon from starting, with its remedy, or which part of it died.
pub async fn run(loaded: Loaded, prepared: Prepared) -> anyhow::Result<()> {
    let Loaded { config, notes, .. } = loaded;
    tracing::info!(version = crate::VERSION, name = config.agent.name, "starting");
    notes.iter().for_each(|note| tracing::warn!("{note}"));
    let mut signals = Signals::new().context("cannot receive signals")?;
    let mut running = tokio::select! {
        started = Running::start(&config, prepared) => started?,
        signal = signals.next() => {
            tracing::info!(signal, "told to stop before the start was complete");
            return Ok(());
        }
    };
    tracing::info!("ready");
    let end = tokio::select! {
        signal = signals.next() => {
            tracing::info!(signal, limit = ?config.agent.shutdown_timeout, "stopping; guests run on");
            Ok(())
        }
        died = running.until_a_part_dies() => Err(died),
    };
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
}

impl Running {
    async fn start(config: &Config, prepared: Prepared) -> anyhow::Result<Self> {
        let (background, closing) = (TaskTracker::new(), CancellationToken::new());
        let parts = Parts::start(config, prepared.catalog).await?;
        let watched = CancellationToken::new();
        let (watching, first_pass) = parts.watch(closing.clone());
        let watching = watched.clone().run_until_cancelled_owned(watching);
        let watching = background.spawn(watching);
        until_reconciled(first_pass).await;
        background.spawn(watched.clone().run_until_cancelled_owned(parts.tune()));
        background.spawn(closing.clone().run_until_cancelled_owned(parts.keep_images_up()));
        let access = Access::new(config.grpc.allowed_clients.iter().cloned());
        let listeners = Listeners::new(background.clone(), closing.clone(), access.clone());
        let (listeners, connections) = listeners;
        let vpn = Tailscale::new(&config.vpn.socket);
        let vpn = Arc::new(VpnWatch::new(Arc::new(vpn), Arc::clone(&parts.api.clock)));
        let opened = open(&config.grpc, prepared.identity.clone(), &vpn, listeners).await;
        let doors = match opened {
            Ok(doors) => doors,
            Err(error) => {
                watched.cancel();
                parts.stop().await;
                return Err(error);
            }
        };
        let control_plane = match &prepared.identity {
            Some(identity) => parts.control_plane(config, identity, &vpn.view(), &closing)?,
            None => Vec::new(),
        };
        let works: [Option<Background>; 3] = [
            Some(Box::pin(vpn.run())),
            prepared.identity.map(|identity| Box::pin(identity.watch_files()) as Background),
            doors.map(|doors| Box::pin(doors.keep()) as Background),
        ];
        for work in works.into_iter().flatten() {
            background.spawn(closing.clone().run_until_cancelled_owned(work));
        }
        for work in control_plane {
            background.spawn(work);
        }
        let serving = server::serve(parts.api.clone(), access, connections, closing.clone());
        let serving = background.spawn(serving);
        Ok(Self { parts, closing, watched, background, serving, watching })
    }

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
        let Self { parts, closing, watched, background, .. } = self;
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
        tracing::info!("stopped");
    }
}

/// Nobody is answered before the ledger and libvirt were reconciled, if libvirt is there; one VM that
/// takes long does not keep the others from their owner.
async fn until_reconciled(mut first_pass: watch::Receiver<bool>) {
    let passed = first_pass.wait_for(|passed| *passed);
    if tokio::time::timeout(FIRST_PASS, passed).await.is_err() {
        tracing::warn!(limit = ?FIRST_PASS, "ready before every VM was reconciled with libvirt; this goes on");
    }
}

/// What runs until the daemon closes.
type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Opens the doors, and gives what keeps those open that may move or are still to be opened.
async fn open(
    grpc: &Grpc,
    identity: Option<Arc<Identity>>,
    vpn: &Arc<VpnWatch>,
    listeners: Listeners,
) -> anyhow::Result<Option<Doors>> {
    let listeners = Arc::new(listeners);
    let doors = match (&grpc.tcp, identity) {
        (
            TcpListener::Tls { address, .. } | TcpListener::Awaited { address, .. },
            Some(identity),
        ) => {
            if matches!(address, ListenAddr::Auto) {
                vpn.look().await;
            }
            let mut doors = Doors::new(*address, Arc::clone(&listeners), identity, vpn);
            doors.open().await?;
            Some(doors)
        }
        (TcpListener::Plain { address }, _) => {
            listeners.tcp(doors::bind(*address).await?, Security::Plain, Callers::All);
            None
        }
        (TcpListener::Tls { .. } | TcpListener::Awaited { .. } | TcpListener::Off { .. }, _) => {
            None
        }
    };
    if let Some(path) = &grpc.unix_socket {
        listeners.unix(unix::bind(path)?);
        tracing::info!(socket = %path.display(), "listening");
    }
    Ok(doors)
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
