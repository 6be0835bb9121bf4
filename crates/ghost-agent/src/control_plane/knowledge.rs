//! What the agent knows of itself, for its signs of life.

use std::sync::Arc;

use ghost_core::domain::TemplateName;
use ghost_core::ports::{Clock, SelfKnowledge};
use jiff::SignedDuration;
use tokio::sync::watch;

use super::credentials::CredentialSource;
use crate::vpn::VpnView;

/// From when on the end of a certificate is a trouble.
const SOON: SignedDuration = SignedDuration::from_hours(3 * 24);

/// The port over what the daemon has.
#[derive(Debug)]
pub struct Knowledge {
    address: watch::Receiver<Option<String>>,
    cached: watch::Receiver<Vec<TemplateName>>,
    vpn: Option<watch::Receiver<VpnView>>,
    credentials: CredentialSource,
    clock: Arc<dyn Clock>,
}

impl Knowledge {
    /// Over these.
    #[must_use]
    pub fn new(
        address: watch::Receiver<Option<String>>,
        cached: watch::Receiver<Vec<TemplateName>>,
        vpn: Option<watch::Receiver<VpnView>>,
        credentials: CredentialSource,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { address, cached, vpn, credentials, clock }
    }
}

impl SelfKnowledge for Knowledge {
    fn address(&self) -> Option<String> {
        self.address.borrow().clone()
    }

    fn templates_cached(&self) -> Vec<TemplateName> {
        self.cached.borrow().clone()
    }

    fn troubles(&self) -> Vec<String> {
        let now = self.clock.now();
        let ends = self.credentials.current().map(|credentials| credentials.not_after);
        let soon = ends.filter(|ends| ends.duration_since(now) < SOON).map(|ends| {
            let day = ends.strftime("%Y-%m-%d %H:%M UTC");
            format!("the agent's certificate ends {day}; if the log names no reason why it is not renewed, enrol again with a new key")
        });
        let vpn = self.vpn.iter().flat_map(|vpn| vpn.borrow().reasons(now));
        soon.into_iter().chain(vpn).collect()
    }
}
