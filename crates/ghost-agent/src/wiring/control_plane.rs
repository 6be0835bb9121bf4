//! The client of the control plane, joined to what it tells of: the agent's address, its templates, its VPN.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, join};
use ghost_core::application::LinkState;
use ghost_core::application::images::a_fetch_ended;
use ghost_core::domain::{TemplateName, cause};
use ghost_core::ports::{Clock, Images};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use super::Parts;
use crate::config::{Config, ListenAddr, TcpListener};
use crate::control_plane::credentials::CredentialSource;
use crate::control_plane::{ControlPlaneTask, Needs};
use crate::grpc::doors;
use crate::identity::Identity;
use crate::vpn::VpnView;

/// How often it is looked which templates are cached, beside the end of each fetch.
const LOOK_EVERY: Duration = Duration::from_secs(5 * 60);

/// What runs until the daemon closes.
type Work = Vec<BoxFuture<'static, ()>>;

impl Parts {
    /// What talks to the control plane until `closing`, and the link to it; nothing if the configuration names none.
    ///
    /// # Errors
    /// `agent.api_url` names no host.
    pub fn control_plane(
        &self,
        config: &Config,
        identity: &Arc<Identity>,
        vpn: &watch::Receiver<VpnView>,
        closing: &CancellationToken,
    ) -> anyhow::Result<(Work, Option<watch::Receiver<LinkState>>)> {
        let (tell_address, address) = watch::channel(advertised(config, &vpn.borrow()));
        let (tell_cached, cached) = watch::channel(Vec::new());
        let task = ControlPlaneTask::new(Needs {
            agent: &config.agent,
            reach: config.vpn.api_reach(),
            api_key: config.api_key.clone(),
            credentials: CredentialSource::of(identity),
            files: config.grpc.files.clone(),
            address,
            cached,
            vpn: vpn_matters(config).then(|| vpn.clone()),
            about: &self.api.about,
            catalog: Arc::clone(&self.api.catalog),
            node: Arc::clone(&self.api.node),
            registry: Arc::clone(&self.registry),
            queue: Arc::new(self.events.clone()),
            clock: Arc::clone(&self.ports.clock),
            meter: Arc::clone(&self.ports.meter),
        })?;
        let Some(task) = task else { return Ok((Vec::new(), None)) };
        let link = task.state();
        let (images, clock) = (Arc::clone(&self.ports.images), Arc::clone(&self.ports.clock));
        let knowing = join(
            follow_address(config.clone(), vpn.clone(), tell_address),
            follow_images(images, clock, tell_cached),
        );
        let closed = closing.clone();
        let knowing = async move { closed.run_until_cancelled(knowing).await.map_or((), drop) };
        Ok((vec![Box::pin(task.run(closing.clone())), Box::pin(knowing)], Some(link)))
    }
}

/// Host and port under which others reach the agent, as far as that is known.
fn advertised(config: &Config, vpn: &VpnView) -> Option<String> {
    if let Some(told) = &config.agent.advertise_addr {
        return Some(told.clone());
    }
    let (TcpListener::Tls { address, .. } | TcpListener::Awaited { address, .. }) =
        &config.grpc.tcp
    else {
        return None;
    };
    let bound = doors::wanted(*address, vpn)?;
    let reachable = !bound.ip().is_loopback() && !bound.ip().is_unspecified() && bound.port() != 0;
    reachable.then(|| bound.to_string())
}

/// Whether the agent can do its work without the VPN.
pub(super) fn vpn_matters(config: &Config) -> bool {
    let listens_there = match &config.grpc.tcp {
        TcpListener::Tls { address, .. } | TcpListener::Awaited { address, .. } => {
            matches!(address, ListenAddr::Tailscale { .. })
        }
        TcpListener::Plain { .. } | TcpListener::Off { .. } => false,
    };
    let elsewhere = match config.agent.api_url.as_ref().and_then(Url::host) {
        Some(Host::Domain(name)) => name != "localhost",
        Some(Host::Ipv4(address)) => !address.is_loopback(),
        Some(Host::Ipv6(address)) => !address.is_loopback(),
        None => false,
    };
    listens_there || (config.vpn.required_for_api && elsewhere)
}

async fn follow_address(
    config: Config,
    mut vpn: watch::Receiver<VpnView>,
    tell: watch::Sender<Option<String>>,
) {
    loop {
        let now = advertised(&config, &vpn.borrow_and_update());
        tell.send_if_modified(|address| {
            let changed = *address != now;
            *address = now;
            changed
        });
        if vpn.changed().await.is_err() {
            return;
        }
    }
}

async fn follow_images(
    images: Arc<dyn Images>,
    clock: Arc<dyn Clock>,
    tell: watch::Sender<Vec<TemplateName>>,
) {
    let mut fetching = images.fetching();
    loop {
        match images.list().await {
            Ok(all) => {
                let mut now: Vec<_> = all.into_iter().flat_map(|image| image.current_of).collect();
                now.sort();
                tell.send_if_modified(|cached| {
                    let changed = *cached != now;
                    *cached = now;
                    changed
                });
            }
            Err(error) => {
                tracing::debug!(error = cause(&error), "cannot tell which templates are cached")
            }
        }
        tokio::select! {
            () = clock.sleep(LOOK_EVERY) => {}
            () = a_fetch_ended(&mut fetching) => {}
        }
    }
}
