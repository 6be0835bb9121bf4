//! Puts snapshots together: at once when something that is watched changes or a look ends, and every [`EVERY`]. Invariant: the
//! task itself waits for nothing but time and news.

use std::sync::Arc;

use futures_util::future::{BoxFuture, join};
use ghost_core::application::{LinkState, Registry};
use ghost_core::domain::{AppError, VmStatus};
use ghost_core::ports::{Clock, EventQueue, Images};
use ghost_libvirt::{Acceleration, ConnectionState};
use jiff::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::decide::{self, Validity};
use super::eyes::{Eyes, changed};
use super::history::{History, Judged, Lost};
use super::own::Own;
use super::pulse::{EVERY, Pulse};
use super::state_folder::StateFolderLook;
use super::verdict::{Subject, Verdict};
use super::{Beginning, Health};
use crate::identity::Credentials;
use crate::vpn::VpnView;

/// Asks libvirt what is missing, as [`ghost_libvirt::Libvirt::check`] does; ends by itself.
pub type LibvirtLook = Arc<dyn Fn() -> BoxFuture<'static, Vec<AppError>> + Send + Sync>;

/// What is looked at.
#[expect(missing_docs, reason = "each other field is documented by its type")]
pub struct Sources {
    pub clock: Arc<dyn Clock>,
    pub registry: Arc<Registry>,
    pub connection: watch::Receiver<ConnectionState>,
    pub libvirt: LibvirtLook,
    pub images: Arc<dyn Images>,
    pub events: Arc<dyn EventQueue>,
    /// To the control plane, if the configuration names one.
    pub link: Option<watch::Receiver<LinkState>>,
    /// If the agent can't do without.
    pub vpn: Option<watch::Receiver<VpnView>>,
    /// Unless the agent speaks no TLS.
    pub credentials: Option<watch::Receiver<Option<Arc<Credentials>>>>,
    pub acceleration: Acceleration,
    pub state_folder: StateFolderLook,
    /// How many lines the log has lost since the start.
    pub lost_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// Cancelled when no new calls are taken.
    pub closing: CancellationToken,
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Keeps the snapshot true.
#[derive(Debug)]
pub struct HealthTask {
    sources: Sources,
    eyes: Eyes,
    teller: Teller,
}

/// What a snapshot needs to know of former ones.
#[derive(Debug)]
struct Teller {
    beginning: Beginning,
    history: History,
    lost: Lost,
    own: Own,
    pulse: Pulse,
}

impl HealthTask {
    /// To be made when the doors are open: from then on the agent is ready if libvirt is there. Tells at once what is known.
    #[must_use]
    pub fn new(sources: Sources, beginning: Beginning) -> Self {
        let eyes = Eyes::new(&sources.clock);
        let mut teller = Teller {
            beginning,
            history: History::default(),
            lost: Lost::default(),
            own: Own::default(),
            pulse: Pulse::default(),
        };
        teller.tell(&sources, &eyes);
        Self { sources, eyes, teller }
    }

    /// Beats at each snapshot.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.teller.pulse.clone()
    }

    /// Never ends.
    pub async fn run(self) {
        let Self { sources, eyes, mut teller } = self;
        join(eyes.look(&sources), teller.keep_telling(&sources, &eyes)).await;
    }
}

impl Teller {
    async fn keep_telling(&mut self, sources: &Sources, eyes: &Eyes) {
        let mut connection = Some(sources.connection.clone());
        let (mut link, mut vpn) = (sources.link.clone(), sources.vpn.clone());
        let mut credentials = sources.credentials.clone();
        let mut closing = Some(sources.closing.clone());
        loop {
            self.tell(sources, eyes);
            tokio::select! {
                () = sources.clock.sleep(EVERY) => {}
                () = eyes.news.notified() => {}
                () = changed(&mut connection) => {}
                () = changed(&mut link) => {}
                () = changed(&mut vpn) => {}
                () = changed(&mut credentials) => {}
                () = cancelled(&mut closing) => {}
            }
        }
    }

    fn tell(&mut self, sources: &Sources, eyes: &Eyes) {
        self.pulse.beat();
        let now = sources.clock.now();
        let judged = self.judge(sources, eyes, now);
        let (status, since, checks) = self.history.settle(judged, now);
        let why = not_ready_because(&sources.connection.borrow(), &sources.closing);
        let health = Health {
            status,
            since,
            version: crate::VERSION,
            started_at: self.beginning.started_at,
            timestamp: now,
            ready: why.is_none(),
            not_ready_because: why.unwrap_or_default(),
            checks,
            metrics: self.measure(sources),
        };
        self.beginning.told.send_replace(Arc::new(health));
    }

    fn judge(&mut self, sources: &Sources, eyes: &Eyes, now: Timestamp) -> Vec<Judged> {
        let libvirt = eyes.libvirt.seen();
        let (folder, images) = (eyes.state_folder.seen(), eyes.images.seen());
        let mut all = vec![
            judged(Subject::Libvirt, decide::libvirt(&sources.connection.borrow(), &libvirt), now),
            judged(Subject::Ledger, decide::ledger(&folder), folder.at(now)),
        ];
        for part in [Subject::StoragePool, Subject::Network, Subject::NetworkFilter] {
            let (verdict, at) = decide::part(part.as_str(), &libvirt, now);
            all.push(judged(part, verdict, at));
        }
        if let Some(link) = &sources.link {
            let uptime = self.uptime(sources);
            all.push(judged(Subject::Api, decide::api(&link.borrow(), uptime), now));
            all.push(judged(Subject::Events, decide::events(sources.events.trouble()), now));
        }
        if let Some(vpn) = &sources.vpn {
            all.push(judged(Subject::Vpn, decide::vpn(&vpn.borrow(), now), now));
        }
        if let Some(credentials) = &sources.credentials {
            let found = credentials.borrow().as_deref().map(validity);
            all.push(judged(Subject::Certificate, decide::certificate(found, now), now));
        }
        all.push(judged(Subject::Images, decide::images(&images), images.at(now)));
        let lost = self.lost.lately(sources.clock.monotonic(), (sources.lost_lines)());
        all.push(judged(Subject::Log, decide::log(lost), now));
        all.push(judged(Subject::Acceleration, decide::acceleration(sources.acceleration), now));
        all
    }

    fn uptime(&self, sources: &Sources) -> std::time::Duration {
        sources.clock.since_boot().saturating_sub(self.beginning.started)
    }

    fn measure(&mut self, sources: &Sources) -> Vec<(&'static str, f64)> {
        let views = sources.registry.views();
        let running = views.iter().filter(|view| view.status == VmStatus::Running).count();
        let mut metrics = vec![
            ("uptime_seconds", self.uptime(sources).as_secs_f64()),
            ("vms_running", count(running)),
            ("vms_total", count(views.len())),
        ];
        metrics.extend(self.own.measure(sources.clock.monotonic()));
        metrics
    }
}

fn judged(subject: Subject, verdict: Verdict, checked_at: Timestamp) -> Judged {
    Judged { subject, verdict, checked_at }
}

fn validity(credentials: &Credentials) -> Validity {
    Validity { from: credentials.not_before, until: credentials.not_after }
}

fn not_ready_because(connection: &ConnectionState, closing: &CancellationToken) -> Option<String> {
    if closing.is_cancelled() {
        return Some("the agent is stopping".to_owned());
    }
    match connection {
        ConnectionState::Connected => None,
        ConnectionState::Connecting => Some("libvirt was not reached yet".to_owned()),
        ConnectionState::Disconnected(why) => Some(format!("libvirt is away: {why}")),
        ConnectionState::Stopped => Some("the agent is stopping".to_owned()),
    }
}

/// Once.
async fn cancelled(token: &mut Option<CancellationToken>) {
    match token {
        Some(cancelled) => {
            cancelled.cancelled().await;
            *token = None;
        }
        None => std::future::pending().await,
    }
}

/// VMs are few enough.
fn count(vms: usize) -> f64 {
    u32::try_from(vms).unwrap_or(u32::MAX).into()
}
