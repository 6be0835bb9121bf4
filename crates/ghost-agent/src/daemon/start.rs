//! The start: what is shown first, what is read next, the doors last.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ghost_host::Tailscale;
use tokio::signal::unix::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Running;
use super::shown::Shown;

use crate::config::{Grpc, ListenAddr, Loaded, TcpListener, check};
use crate::grpc::access::Access;
use crate::grpc::doors::{self, Doors};
use crate::grpc::listen::{Callers, Security};
use crate::grpc::operations::OperationsApi;
use crate::grpc::{Listeners, server, unix};
use crate::identity::Identity;
use crate::observability::Observability;
use crate::observability::metrics::{LogCounts, Metrics};
use crate::observability::tracing::Source;
use crate::prepare::Prepared;
use crate::vpn::VpnWatch;
use crate::wiring::{Beside, Parts};

/// How long the start waits for VMs to be reconciled with libvirt.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// What runs until the daemon closes.
type Background = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the daemon is started with.
pub(super) struct Given<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) prepared: Prepared,
    pub(super) observability: Observability,
    pub(super) hangups: Signal,
}

impl Running {
    /// # Errors
    /// What kept the daemon from starting, with its remedy.
    pub(super) async fn start(given: Given<'_>) -> anyhow::Result<Self> {
        let Given { loaded, prepared, observability, hangups } = given;
        let (config, Observability { log, exporting }) = (&loaded.config, observability);
        let (background, closing) = (TaskTracker::new(), CancellationToken::new());
        let spawn = |work: Background| {
            background.spawn(closing.clone().run_until_cancelled_owned(work));
        };
        spawn(Box::pin(log.clone().keep(hangups)));
        let (watched, metrics) = (CancellationToken::new(), Arc::<Metrics>::default());
        let shown =
            Shown::begin(&config.metrics, &metrics, background.clone(), watched.clone()).await?;
        let parts = Parts::start(config, prepared.catalog, metrics).await?;
        let traces = exporting.map(|exporting| exporting.start(&source(&parts)));
        let (watching, first_pass) = parts.watch(closing.clone(), shown.watch.clone());
        let watching = background.spawn(watched.clone().run_until_cancelled_owned(watching));
        until_reconciled(first_pass).await;
        background.spawn(watched.clone().run_until_cancelled_owned(parts.tune()));
        spawn(Box::pin(parts.keep_images_up()));
        let access = Access::new(config.grpc.allowed_clients.iter().cloned());
        let (listeners, connections) =
            Listeners::new(background.clone(), closing.clone(), access.clone());
        let vpn = Tailscale::new(&config.vpn.socket);
        let vpn = Arc::new(VpnWatch::new(Arc::new(vpn), Arc::clone(&parts.api.clock)));
        let identity = prepared.identity;
        let doors = match open(&config.grpc, identity.clone(), &vpn, listeners).await {
            Ok(doors) => doors,
            Err(error) => {
                watched.cancel();
                parts.stop().await;
                return Err(error);
            }
        };
        let (control_plane, link) = match &identity {
            Some(identity) => parts.control_plane(config, identity, &vpn.view(), &closing)?,
            None => (Vec::new(), None),
        };
        for work in control_plane {
            background.spawn(work);
        }
        let health = shown.view.clone();
        let lost = log.clone();
        shown.look_at(parts.health_sources(
            config,
            identity.as_ref(),
            &vpn.view(),
            link.clone(),
            closing.clone(),
            Arc::new(move || lost.dropped()),
        ));
        let counted = log.clone();
        let logs = move || LogCounts { lines: counted.lines(), dropped: counted.dropped() };
        let beside = Beside {
            identity: identity.clone(),
            link,
            health: health.clone(),
            logs: Arc::new(logs),
        };
        spawn(Box::pin(parts.show_to_metrics(beside)));
        spawn(Box::pin(vpn.run()));
        if let Some(identity) = identity {
            spawn(Box::pin(identity.watch_files()));
        }
        if let Some(doors) = doors {
            spawn(Box::pin(doors.keep()));
        }
        let lines = log.clone();
        let lines = Arc::new(move |most| lines.recent(most));
        let debug = parts.debug(config, check::shown(loaded), health.clone(), lines);
        let quotas = Arc::clone(&parts.api.quotas);
        let operations =
            OperationsApi { quotas, health: health.clone(), debug: Arc::new(debug), log };
        let api = parts.api.clone();
        let serving = server::serve(api, operations, access, connections, health, closing.clone());
        let serving = background.spawn(serving);
        Ok(Self { parts, closing, watched, background, serving, watching, traces })
    }
}

fn source(parts: &Parts) -> Source {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    Source { agent_id: parts.api.about.agent_id, host }
}

/// Nobody is answered before the ledger and libvirt were reconciled, if libvirt is there; one VM that
/// takes long does not keep the others from their owner.
async fn until_reconciled(mut first_pass: watch::Receiver<bool>) {
    let passed = first_pass.wait_for(|passed| *passed);
    if tokio::time::timeout(FIRST_PASS, passed).await.is_err() {
        tracing::warn!(limit = ?FIRST_PASS, "ready before every VM was reconciled with libvirt; this goes on");
    }
}

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
