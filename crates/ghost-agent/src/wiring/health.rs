//! What the health looks at.

use std::sync::Arc;

use ghost_core::application::LinkState;
use ghost_libvirt::Acceleration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::Parts;
use super::control_plane::vpn_matters;
use crate::config::Config;
use crate::health::{Sources, StateFolder};
use crate::identity::Identity;
use crate::vpn::VpnView;

impl Parts {
    /// All of it; `lost_lines` counts what the log has lost since the start.
    #[must_use]
    pub fn health_sources(
        &self,
        config: &Config,
        identity: Option<&Arc<Identity>>,
        vpn: &watch::Receiver<VpnView>,
        link: Option<watch::Receiver<LinkState>>,
        closing: CancellationToken,
        lost_lines: Arc<dyn Fn() -> u64 + Send + Sync>,
    ) -> Sources {
        let libvirt = Arc::clone(&self.libvirt);
        Sources {
            clock: Arc::clone(&self.ports.clock),
            registry: Arc::clone(&self.registry),
            connection: self.libvirt.state(),
            libvirt: Arc::new(move || {
                let libvirt = Arc::clone(&libvirt);
                Box::pin(async move { libvirt.check().await })
            }),
            images: Arc::clone(&self.ports.images),
            events: Arc::new(self.events.clone()),
            link,
            vpn: vpn_matters(config).then(|| vpn.clone()),
            credentials: identity.map(|identity| identity.changes()),
            acceleration: match self.api.about.acceleration {
                "kvm" => Acceleration::Kvm,
                _ => Acceleration::Tcg,
            },
            state_folder: StateFolder::look_at(&config.agent.state_dir),
            lost_lines,
            closing,
        }
    }
}
