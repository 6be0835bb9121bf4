//! Keeps the registry true: libvirt's events say who runs, samples say how much it uses and correct
//! what an event did not tell, and unfinished work is taken up again after each (re)connection and
//! every minute.
//!
//! Invariant: events are never left unread while something is removed; following and acting are
//! two futures.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, broadcast};

use super::reconcile::Reconcile;
use super::registry::Registry;
use super::wait::within;
use crate::domain::{AppError, Sighting};
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
    reconcile: Reconcile,
    sample_every: Duration,
    work: Notify,
}

impl Watcher {
    /// Subscribes at once, so that nothing that happens from now on is missed.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, sample_every: Duration) -> Self {
        let reconcile = Reconcile::new(ports.clone(), Arc::clone(&registry));
        let events = ports.events.subscribe();
        let follower = Follower { ports, registry, reconcile, sample_every, work: Notify::new() };
        Self { follower, events }
    }

    /// Follows until there are no more events.
    pub async fn run(mut self) {
        let following = pin!(self.follower.follow(&mut self.events));
        match select(following, pin!(self.follower.act())).await {
            Either::Left(((), _)) | Either::Right(((), _)) => {}
        }
    }
}

impl Follower {
    async fn follow(&self, events: &mut broadcast::Receiver<HypervisorEvent>) {
        self.look().await;
        let mut due = self.ports.clock.monotonic() + self.sample_every;
        loop {
            let left = due.saturating_sub(self.ports.clock.monotonic());
            match within(&*self.ports.clock, left, events.recv()).await {
                Some(Ok(event)) => self.take_in(event).await,
                Some(Err(RecvError::Lagged(missed))) => {
                    tracing::warn!(missed, "libvirt's events came faster than they were read");
                    self.look().await;
                }
                Some(Err(RecvError::Closed)) => return,
                None => {
                    // The events report it when libvirt is away; a sample has nothing to add.
                    drop(self.sample().await);
                    due = self.ports.clock.monotonic() + self.sample_every;
                }
            }
        }
    }

    async fn take_in(&self, event: HypervisorEvent) {
        match event {
            HypervisorEvent::Power(id, power) => {
                tracing::debug!(vm_id = %id, %power, "power changed");
                self.registry.see(id, Sighting::Power(power));
            }
            HypervisorEvent::Undefined(id) => self.registry.see(id, Sighting::NoDomain),
            HypervisorEvent::Connected => self.look().await,
            HypervisorEvent::Disconnected(why) => {
                tracing::warn!(why, "lost libvirt; guests are not affected, reconnecting");
            }
        }
    }

    async fn look(&self) {
        match self.reconcile.look().await {
            Ok(()) => self.work.notify_one(),
            Err(error) => {
                tracing::warn!(error = %error, "cannot compare the ledger with libvirt now; will do so when it is back");
            }
        }
    }

    async fn sample(&self) -> Result<(), AppError> {
        let observed = self.ports.hypervisor.observe().await?;
        self.registry.resync(&observed);
        self.registry.sampled(self.ports.clock.monotonic(), &observed);
        Ok(())
    }

    async fn act(&self) {
        loop {
            within(&*self.ports.clock, ACT_EVERY, self.work.notified()).await;
            self.reconcile.act_on_all().await;
        }
    }
}
