//! Keeps the registry true: libvirt's events say who runs, samples say how much it uses, and a
//! reconcile after each (re)connection makes up for what was missed.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use super::reconcile::Reconcile;
use super::registry::Registry;
use super::wait::within;
use crate::domain::Sighting;
use crate::ports::{HypervisorEvent, Ports};

/// Follows the hypervisor until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    ports: Ports,
    registry: Arc<Registry>,
    reconcile: Reconcile,
    sample_every: Duration,
    events: broadcast::Receiver<HypervisorEvent>,
}

impl Watcher {
    /// Subscribes at once, so that nothing that happens from now on is missed.
    #[must_use]
    pub fn new(ports: Ports, registry: Arc<Registry>, sample_every: Duration) -> Self {
        let reconcile = Reconcile::new(ports.clone(), Arc::clone(&registry));
        let events = ports.events.subscribe();
        Self { ports, registry, reconcile, sample_every, events }
    }

    /// Follows for ever.
    pub async fn run(mut self) {
        self.resync().await;
        loop {
            let event = within(&*self.ports.clock, self.sample_every, self.events.recv()).await;
            match event {
                Some(Ok(event)) => self.take_in(event).await,
                Some(Err(RecvError::Lagged(missed))) => {
                    tracing::warn!(
                        missed,
                        "libvirt's events came faster than they were read; resynchronising"
                    );
                    self.resync().await;
                }
                Some(Err(RecvError::Closed)) => return,
                None => self.sample().await,
            }
        }
    }

    async fn take_in(&self, event: HypervisorEvent) {
        match event {
            HypervisorEvent::Power(id, power) => {
                tracing::debug!(vm_id = %id, ?power, "power changed");
                self.registry.see(id, Sighting::Power(power));
            }
            HypervisorEvent::Undefined(id) => self.registry.see(id, Sighting::NoDomain),
            HypervisorEvent::Connected => self.resync().await,
            HypervisorEvent::Disconnected(why) => {
                tracing::warn!(why, "lost libvirt; guests are not affected, reconnecting");
            }
        }
    }

    async fn resync(&self) {
        if let Err(error) = self.reconcile.run().await {
            tracing::warn!(error = %error, "cannot compare the ledger with libvirt now; will do so when it is back");
        }
    }

    async fn sample(&self) {
        // The events report it when libvirt is away; a sample has nothing to add.
        if let Ok(observed) = self.ports.hypervisor.observe().await {
            self.registry.sampled(self.ports.clock.monotonic(), &observed);
        }
    }
}
