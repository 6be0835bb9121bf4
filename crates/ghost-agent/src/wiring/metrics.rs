//! What the metrics are read from.

use std::sync::Arc;

use ghost_core::application::LinkState;
use tokio::sync::watch;

use super::Parts;
use crate::health::HealthView;
use crate::identity::Identity;
use crate::observability::metrics::{LogCounts, Look, Sources, images};

/// What the metrics see beside the parts.
#[derive(Clone)]
pub struct Beside {
    /// Whose certificate's end is told.
    pub identity: Option<Arc<Identity>>,
    /// The link to the control plane; `None` without `agent.api_url`.
    pub link: Option<watch::Receiver<LinkState>>,
    /// How the agent is.
    pub health: HealthView,
    /// What was logged.
    pub logs: Look<LogCounts>,
}

impl std::fmt::Debug for Beside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Beside").field("identity", &self.identity).finish_non_exhaustive()
    }
}

impl Parts {
    /// Lets the metrics see the parts, and gives what keeps up what they can't look at themselves, for ever.
    pub fn show_to_metrics(&self, beside: Beside) -> impl Future<Output = ()> + Send + 'static {
        let Beside { identity, link, health, logs } = beside;
        let (tell_images, images) = watch::channel(None);
        // Libvirt tells the metrics of its calls: neither keeps the other.
        let (libvirt, events) = (Arc::downgrade(&self.libvirt), self.events.clone());
        let certificate = move || Some(identity.as_ref()?.current()?.not_after);
        self.api.metrics.attach(Sources {
            registry: Arc::clone(&self.registry),
            node: Arc::clone(&self.api.node),
            clock: Arc::clone(&self.ports.clock),
            acceleration: self.api.about.acceleration,
            libvirt: Arc::new(move || Some(libvirt.upgrade()?.vitals())),
            images,
            cache_limit: self.api.images.retention().limit,
            fetching: self.ports.images.fetching(),
            downloads: Arc::clone(&self.downloads),
            link,
            waiting_events: Arc::new(move || events.waiting()),
            certificate_end: Arc::new(certificate),
            health,
            logs,
        });
        images::follow(Arc::clone(&self.ports.images), Arc::clone(&self.ports.clock), tell_images)
    }
}
