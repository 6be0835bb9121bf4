//! Keeps the registry true: libvirt's events say who runs, samples say how much it uses and correct
//! what an event did not tell, and unfinished work is taken up again after each (re)connection and
//! every minute.
//!
//! Invariant: events are never left unread while something is removed, or while libvirt lets a question
//! wait; following, asking and acting are three futures.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, join, select};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast, watch};

use super::limits::Limits;
use super::node::Node;
use super::reconcile::Reconcile;
use super::registry::Registry;
use super::said::{Said, gist};
use super::wait::within;
use crate::domain::{AppError, Sighting, TraceParent, VmId, cause};
use crate::ports::{HypervisorEvent, Ports};

/// How often what could not be undone or finished is tried again.
const ACT_EVERY: Duration = Duration::from_secs(60);

/// Follows the hypervisor until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    follower: Follower,
    events: broadcast::Receiver<HypervisorEvent>,
}

#[derive(Debug)]
struct Follower {
    ports: Ports,
    registry: Arc<Registry>,
    node: Arc<Node>,
    reconcile: Reconcile,
    sample_every: Duration,
    /// Everything has to be looked at anew.
    stale: Notify,
    work: Notify,
    passed: watch::Sender<bool>,
    /// Why the ledger could not be compared with libvirt.
    failures: Said<()>,
    /// The power of each VM, as it was told last.
    powers: Said<VmId>,
}

impl Watcher {
    /// Subscribes at once, so that nothing that happens from now on is missed.
    #[must_use]
    pub fn new(
        ports: Ports,
        registry: Arc<Registry>,
        node: Arc<Node>,
        limits: Limits,
        sample_every: Duration,
    ) -> Self {
        let reconcile = Reconcile::new(ports.clone(), Arc::clone(&registry), limits);
        let events = ports.events.subscribe();
        let (stale, work) = (Notify::new(), Notify::new());
        let passed = watch::Sender::new(false);
        let failures = Said::default();
        let follower = Follower {
            ports,
            registry,
            node,
            reconcile,
            sample_every,
            stale,
            work,
            passed,
            failures,
            powers: Said::default(),
        };
        Self { follower, events }
    }

    /// True once everything was looked at and acted on for the first time, or libvirt could not be
    /// asked.
    #[must_use]
    pub fn first_pass(&self) -> watch::Receiver<bool> {
        self.follower.passed.subscribe()
    }

    /// Follows until there are no more events, and acts until `closing`: what is under way then is
    /// resumed by the next process.
    pub async fn run(mut self, closing: impl Future<Output = ()>) {
        let following = pin!(self.follower.follow(&mut self.events));
        let (acting, closing) = (pin!(self.follower.act()), pin!(closing));
        let working = pin!(join(self.follower.ask(), select(acting, closing)));
        match select(following, working).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}

/// How the last comparison of the ledger with libvirt went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    Well,
    /// It is to be done again, instead of the next sample.
    Failed,
}

impl Follower {
    async fn follow(&self, events: &mut broadcast::Receiver<HypervisorEvent>) {
        loop {
            match events.recv().await {
                Ok(event) => self.take_in(event),
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "libvirt's events came faster than they were read");
                    self.stale.notify_one();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn take_in(&self, event: HypervisorEvent) {
        match event {
            HypervisorEvent::Power(id, power) => {
                let cause = self.registry.cause(id);
                let request_id = cause.as_ref().map(|origin| origin.request_id.as_str());
                let trace = cause.as_ref().and_then(|origin| origin.traceparent.as_ref());
                let trace_id = trace.map(TraceParent::trace_id);
                // libvirt tells a start twice: that it was started, and that it goes on.
                if self.powers.is_news(id, power.to_string()) {
                    tracing::debug!(vm_id = %id, request_id, trace_id, %power, "power changed");
                }
                self.registry.see(id, Sighting::Power(power));
            }
            // A domain that runs goes on without its definition, so what is left of it has to be seen.
            HypervisorEvent::Undefined(id) => {
                self.powers.has_ended(&id);
                self.stale.notify_one();
            }
            HypervisorEvent::Connected => self.stale.notify_one(),
            HypervisorEvent::Disconnected(why) => {
                self.registry.lost_contact();
                tracing::warn!(why, "lost libvirt; guests are not affected, reconnecting");
            }
        }
    }

    async fn ask(&self) {
        let mut looked = self.look().await;
        let mut due = self.ports.clock.monotonic() + self.sample_every;
        loop {
            let left = due.saturating_sub(self.ports.clock.monotonic());
            if within(&*self.ports.clock, left, self.stale.notified()).await.is_some() {
                looked = self.look().await;
                continue;
            }
            match looked {
                Looked::Failed => looked = self.look().await,
                // The events report it when libvirt is away; a sample has nothing to add.
                Looked::Well => drop(self.sample().await),
            }
            due = self.ports.clock.monotonic() + self.sample_every;
        }
    }

    async fn look(&self) -> Looked {
        let away = self.registry.age(self.ports.clock.monotonic());
        match self.reconcile.look().await {
            Ok(()) => {
                // What the pool has; without it that is not known, and the create will say why.
                drop(self.node.refresh(&self.ports).await);
                match (away, self.failures.has_ended(&())) {
                    (Some(away), _) => tracing::info!(?away, "libvirt is back"),
                    (None, true) => tracing::info!("the ledger was compared with libvirt again"),
                    (None, false) => {}
                }
                self.work.notify_one();
                Looked::Well
            }
            Err(error) => {
                self.passed.send_replace(true);
                if self.failures.is_news((), gist(&error)) {
                    tracing::warn!(
                        error = cause(&error),
                        "cannot compare the ledger with libvirt now; it is tried again every few seconds, and said when it works again"
                    );
                }
                Looked::Failed
            }
        }
    }

    async fn sample(&self) -> Result<(), AppError> {
        let asking = self.registry.asking(self.ports.clock.monotonic());
        let observed = self.ports.hypervisor.observe().await;
        let observed = observed.inspect_err(|_| self.registry.lost_contact())?;
        self.registry.resync(asking, &observed);
        self.registry.sampled(self.ports.clock.monotonic(), &observed);
        self.node.refresh(&self.ports).await.map(drop)
    }

    async fn act(&self) {
        loop {
            within(&*self.ports.clock, ACT_EVERY, self.work.notified()).await;
            self.reconcile.act_on_all().await;
            self.passed.send_replace(true);
        }
    }
}
