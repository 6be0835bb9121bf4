//! The start: what is shown first, what is read next, the doors last.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::LinkState;
use ghost_host::Tailscale;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Running;
use super::shown::Shown;

use crate::config::{Config, Grpc, ListenAddr, Loaded, TcpListener, check};
use crate::grpc::access::Access;
use crate::grpc::doors::{self, Doors};
use crate::grpc::listen::{Callers, Security};
use crate::grpc::operations::OperationsApi;
use crate::grpc::{Listeners, server, unix};
use crate::health::HealthView;
use crate::identity::Identity;
use crate::observability::Observability;
use crate::observability::logging::{Hangups, LogHandle};
use crate::observability::metrics::{LogCounts, Metrics};
use crate::observability::tracing::Source;
use crate::prepare::Prepared;
use crate::vpn::VpnWatch;
use crate::wiring::{Beside, Parts};

/// How long the start waits for VMs to be reconciled with libvirt.
const FIRST_PASS: Duration = Duration::from_secs(5);

/// What the daemon is started with.
pub(super) struct Given<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) prepared: Prepared,
    pub(super) observability: Observability,
    pub(super) hangups: Hangups,
}

/// How it goes with the control plane.
type Link = watch::Receiver<LinkState>;

/// What everything that runs ends by.
#[derive(Debug, Default)]
struct Ends {
    background: TaskTracker,
    closing: CancellationToken,
    watched: CancellationToken,
}

impl Ends {
    /// Runs it until the doors close.
    fn until_closing(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.background.spawn(self.closing.clone().run_until_cancelled_owned(work));
    }

    /// Runs it until no call needs libvirt's events any more.
    fn until_watched(
        &self,
        work: impl Future<Output = ()> + Send + 'static,
    ) -> JoinHandle<Option<()>> {
        self.background.spawn(self.watched.clone().run_until_cancelled_owned(work))
    }
}

impl Running {
    /// # Errors
    /// What kept the daemon from starting, with its remedy.
    pub(super) async fn start(given: Given<'_>) -> anyhow::Result<Self> {
        let Given { loaded, prepared: Prepared { catalog, identity }, observability, hangups } =
            given;
        let (config, Observability { log, exporting }) = (&loaded.config, observability);
        let (ends, metrics) = (Ends::default(), Arc::<Metrics>::default());
        ends.until_closing(log.clone().keep(hangups));
        let (background, watched) = (ends.background.clone(), ends.watched.clone());
        let shown = Shown::begin(&config.metrics, &metrics, background, watched).await?;
        let parts = Parts::start(config, catalog, metrics).await?;
        let traces = exporting.map(|exporting| exporting.start(&source(&parts)));
        let watching = reconciled(&ends, &parts, &shown).await;

        let access = Access::new(config.grpc.allowed_clients.iter().cloned());
        let (background, closing) = (ends.background.clone(), ends.closing.clone());
        let (listeners, connections) = Listeners::new(background, closing, access.clone());
        let vpn = Tailscale::new(&config.vpn.socket);
        let vpn = Arc::new(VpnWatch::new(Arc::new(vpn), Arc::clone(&parts.api.clock)));
        let doors = match open(&config.grpc, identity.clone(), &vpn, listeners).await {
            Ok(doors) => doors,
            Err(error) => {
                ends.watched.cancel();
                parts.stop().await;
                return Err(error);
            }
        };
        let link = join_cloud(&ends, &parts, config, identity.as_ref(), &vpn)?;
        let seen = Seen { identity: identity.clone(), link, log };
        let (operations, health) = show(&ends, &parts, loaded, shown, &vpn, seen);
        ends.until_closing(vpn.run());
        if let Some(identity) = identity {
            ends.until_closing(identity.watch_files());
        }
        if let Some(doors) = doors {
            ends.until_closing(doors.keep());
        }
        let (api, closing) = (parts.api.clone(), ends.closing.clone());
        let serving = server::serve(api, operations, access, connections, health, closing);
        let serving = ends.background.spawn(serving);
        let Ends { background, closing, watched } = ends;
        Ok(Self { parts, closing, watched, background, serving, watching, traces })
    }
}

/// Begins the watch of libvirt and what follows the first pass, which is awaited.
async fn reconciled(ends: &Ends, parts: &Parts, shown: &Shown) -> JoinHandle<Option<()>> {
    let (watching, first_pass) = parts.watch(ends.closing.clone(), shown.watch.clone());
    let watching = ends.until_watched(watching);
    until_reconciled(first_pass).await;
    ends.until_watched(parts.tune());
    ends.until_closing(parts.keep_images_up());
    watching
}

/// Begins what enrols, beats and tells events, if there is a control plane; gives how that goes.
fn join_cloud(
    ends: &Ends,
    parts: &Parts,
    config: &Config,
    identity: Option<&Arc<Identity>>,
    vpn: &VpnWatch,
) -> anyhow::Result<Option<Link>> {
    let Some(identity) = identity else { return Ok(None) };
    let (work, link) = parts.control_plane(config, identity, &vpn.view(), &ends.closing)?;
    for each in work {
        ends.background.spawn(each);
    }
    Ok(link)
}

/// What health, metrics and the operator are shown, apart from the parts.
struct Seen {
    identity: Option<Arc<Identity>>,
    link: Option<Link>,
    log: LogHandle,
}

/// Lets health, metrics and the operator's calls look at what runs.
fn show(
    ends: &Ends,
    parts: &Parts,
    loaded: &Loaded,
    shown: Shown,
    vpn: &VpnWatch,
    Seen { identity, link, log }: Seen,
) -> (OperationsApi, HealthView) {
    let (health, lost) = (shown.view.clone(), log.clone());
    let lost = Arc::new(move || lost.dropped());
    let (closing, config) = (ends.closing.clone(), &loaded.config);
    let (id, vpn) = (identity.as_ref(), vpn.view());
    shown.look_at(parts.health_sources(config, id, &vpn, link.clone(), closing, lost));
    let counted = log.clone();
    let logs = move || LogCounts { lines: counted.lines(), dropped: counted.dropped() };
    let beside = Beside { identity, link, health: health.clone(), logs: Arc::new(logs) };
    ends.until_closing(parts.show_to_metrics(beside));
    let lines = log.clone();
    let lines = Arc::new(move |most| lines.recent(most));
    let debug = Arc::new(parts.debug(config, check::shown(loaded), health.clone(), lines));
    let quotas = Arc::clone(&parts.api.quotas);
    let operations = OperationsApi { quotas, health: health.clone(), debug, log };
    (operations, health)
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
