//! The agent's side of the control plane over gRPC: who it is ([`credentials`], `enrol`, `renew`), and what it says
//! ([`client`]). When to say what is decided in `ghost_core::application::control_plane`.
//!
//! Invariant: nothing here keeps the daemon from starting, serving its own host, or ending.

pub mod client;
mod convert;
pub mod credentials;
mod dial;
mod enrol;
mod failure;
pub mod files;
mod issued;
mod knowledge;
mod pin;
mod renew;
pub mod target;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use futures_util::future::join3;
use ghost_core::application::backoff::Dice;
use ghost_core::application::{Control, Facts, Hurry, LinkState, NodeQuery, Registry, Who};
use ghost_core::domain::control::ControlError;
use ghost_core::domain::{ApiReach, Catalog, TemplateName};
use ghost_core::ports::{Clock, EventQueue, Meter};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::config::{self, ApiKey, TlsFiles};
use crate::grpc::About;
use crate::vpn::VpnView;
use client::GrpcControlPlane;
use credentials::CredentialSource;
use enrol::Enrolment;
pub use knowledge::Knowledge;
use renew::Renewal;
use target::Target;

/// Everything that it needs.
#[derive(Debug)]
#[expect(missing_docs, reason = "each other field is documented by its type")]
pub struct Needs<'a> {
    pub agent: &'a config::Agent,
    pub reach: ApiReach,
    /// `GHOST_API_KEY`.
    pub api_key: Option<ApiKey>,
    /// Where key, certificate and authority are, or shall be.
    pub files: TlsFiles,
    pub credentials: CredentialSource,
    /// Host and port under which the control plane reaches the agent.
    pub address: watch::Receiver<Option<String>>,
    /// The templates whose image is cached.
    pub cached: watch::Receiver<Vec<TemplateName>>,
    /// What is known of the VPN, if the agent can't do without.
    pub vpn: Option<watch::Receiver<VpnView>>,
    pub about: &'a About,
    pub catalog: Arc<Catalog>,
    pub node: Arc<NodeQuery>,
    pub registry: Arc<Registry>,
    pub queue: Arc<dyn EventQueue>,
    pub clock: Arc<dyn Clock>,
    pub meter: Arc<dyn Meter>,
}

/// Talks to the control plane.
#[derive(Debug)]
pub struct ControlPlaneTask {
    control: Control,
    enrolment: Enrolment,
    renewal: Renewal,
    credentials: CredentialSource,
}

impl ControlPlaneTask {
    /// `None` if the configuration names no control plane.
    ///
    /// # Errors
    /// `agent.api_url` names no host.
    pub fn new(needs: Needs<'_>) -> Result<Option<Self>, ControlError> {
        let Some(url) = &needs.agent.api_url else { return Ok(None) };
        let target = Target::of(url, needs.reach)?;
        let Needs { agent, api_key, files, credentials, about, clock, .. } = needs;
        let plane = Arc::new(GrpcControlPlane::new(target.clone(), credentials.clone()));
        let knowledge = Knowledge::new(
            needs.address,
            needs.cached,
            needs.vpn,
            credentials.clone(),
            Arc::clone(&clock),
        );
        let facts = Facts {
            who: Who {
                instance: Uuid::new_v4(),
                name: about.name.clone(),
                version: crate::VERSION.to_owned(),
                acceleration: about.acceleration,
                boot: about.boot,
            },
            catalog: needs.catalog,
            node: needs.node,
            registry: needs.registry,
            queue: needs.queue,
            knowledge: Arc::new(knowledge),
            clock: Arc::clone(&clock),
            meter: needs.meter,
        };
        let control = Control::new(plane.clone(), facts, agent.heartbeat_interval, Dice::default());
        let enrolment = Enrolment {
            agent: about.agent_id,
            name: about.name.clone(),
            target,
            key: api_key,
            files: files.clone(),
            credentials: credentials.clone(),
            clock: Arc::clone(&clock),
            dice: Dice::default(),
        };
        let renewal = Renewal {
            agent: about.agent_id,
            plane,
            files,
            credentials: credentials.clone(),
            clock,
            dice: Dice::default(),
        };
        Ok(Some(Self { control, enrolment, renewal, credentials }))
    }

    /// The link now and after each change, for health and metrics.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.control.state()
    }

    /// Runs until `closing`, and then up to 2 s for the last words.
    pub async fn run(self, closing: CancellationToken) {
        let Self { control, enrolment, renewal, credentials } = self;
        // Without a certificate there is nothing to be said, and nobody to say it to.
        if closing.run_until_cancelled(enrolment.run()).await.is_none() {
            return;
        }
        let hurry = control.hurry();
        let renewing = closing.run_until_cancelled(renewal.run());
        let hurrying = closing.run_until_cancelled(hurry_on_change(credentials, hurry));
        join3(control.run(closing.cancelled()), renewing, hurrying).await;
    }
}

/// Whoever was refused for a certificate is not refused for the next one.
async fn hurry_on_change(mut credentials: CredentialSource, hurry: Hurry) {
    credentials.changes.mark_unchanged();
    while credentials.changes.changed().await.is_ok() {
        hurry.now();
    }
}
