//! The TCP door with TLS, where it is to be now. Invariant: there is at most one, and it is where
//! `wanted` says, or nowhere while that is not possible; nobody who is in is put out when it moves.
//!
//! ```text
//! waiting (no certificates, or no VPN) ──▶ open at A ──another address──▶ open at B
//!      ▲                                      └──none any more──▶ waiting
//! ```

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ghost_core::domain::is_in_vpn;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::listen::{Callers, Listeners, Security};
use crate::config::ListenAddr;
use crate::identity::{Credentials, Identity};
use crate::vpn::{VpnView, VpnWatch};

/// From one try to open a door to the next: an address can be told before the interface has it.
const RETRY: Duration = Duration::from_secs(2);

/// Keeps the door where it is to be.
#[derive(Debug)]
pub struct Doors {
    address: ListenAddr,
    listeners: Arc<Listeners>,
    identity: Arc<Identity>,
    credentials: watch::Receiver<Option<Arc<Credentials>>>,
    vpn: watch::Receiver<VpnView>,
    open: Option<Door>,
    /// What was complained of last.
    told: Option<String>,
}

/// An open door.
#[derive(Debug)]
struct Door {
    /// As it was wanted.
    at: SocketAddr,
    /// As it is.
    bound: SocketAddr,
    /// Closes it.
    token: CancellationToken,
}

impl Doors {
    /// None yet.
    #[must_use]
    pub fn new(
        address: ListenAddr,
        listeners: Arc<Listeners>,
        identity: Arc<Identity>,
        vpn: &VpnWatch,
    ) -> Self {
        let (credentials, vpn) = (identity.changes(), vpn.view());
        Self { address, listeners, identity, credentials, vpn, open: None, told: None }
    }

    /// Opens the first one, if there can be one now.
    ///
    /// # Errors
    /// That it can't be opened; but not in the VPN, whose addresses come and go: there it is tried again.
    pub async fn open(&mut self) -> anyhow::Result<()> {
        match self.arrange().await {
            Err(error) if !self.wanted().is_some_and(|at| is_in_vpn(at.ip())) => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Follows certificates and VPN, for ever.
    pub async fn keep(mut self) {
        loop {
            let tried = self.arrange().await;
            if let Err(error) = &tried {
                let error = format!("{error:#}");
                if self.told.as_ref() != Some(&error) {
                    tracing::warn!(error, "cannot listen; trying again");
                    self.told = Some(error);
                }
            }
            let again = async {
                match tried {
                    Ok(()) => std::future::pending().await,
                    Err(_) => tokio::time::sleep(RETRY).await,
                }
            };
            tokio::select! {
                Ok(()) = self.credentials.changed() => {}
                Ok(()) = self.vpn.changed() => {}
                () = again => {}
            }
        }
    }

    fn wanted(&self) -> Option<SocketAddr> {
        let view = self.vpn.borrow();
        self.credentials.borrow().as_ref().and_then(|_| wanted(self.address, &view))
    }

    /// Closes the door that is not wanted, opens the one that is.
    async fn arrange(&mut self) -> anyhow::Result<()> {
        let wanted = self.wanted();
        if wanted.is_some() && self.open.as_ref().map(|door| door.at) == wanted {
            return Ok(());
        }
        if let Some(door) = self.open.take() {
            door.token.cancel();
            tracing::info!(former = %door.bound, "no longer listening there");
        }
        let Some(at) = wanted else {
            self.tell_what_is_waited_for();
            return Ok(());
        };
        let listener = bind(at).await?;
        let bound = listener.local_addr().unwrap_or(at);
        let callers = if is_in_vpn(at.ip()) { Callers::OfTheVpn } else { Callers::All };
        let security = Security::Tls(Arc::clone(&self.identity));
        let token = self.listeners.tcp(listener, security, callers);
        (self.open, self.told) = (Some(Door { at, bound, token }), None);
        Ok(())
    }

    /// Once; that certificates are waited for was told at the start.
    fn tell_what_is_waited_for(&mut self) {
        let waiting = "waiting for an address in the VPN, to listen there; see: tailscale status";
        let told = self.told.as_deref() == Some(waiting);
        if self.credentials.borrow().is_some() && !told {
            tracing::warn!(listen_addr = %self.address, "{waiting}");
            self.told = Some(waiting.to_owned());
        }
    }
}

/// Where to listen, given what is known of the VPN.
pub(crate) fn wanted(address: ListenAddr, vpn: &VpnView) -> Option<SocketAddr> {
    let in_vpn = |port| vpn.address().map(|own| SocketAddr::new(own, port));
    match address {
        ListenAddr::Fixed(address) => Some(address),
        ListenAddr::Tailscale { port } => in_vpn(port),
        ListenAddr::Auto => in_vpn(address.port()).or(Some(ListenAddr::LOOPBACK)),
    }
}

/// Listens there.
///
/// # Errors
/// If it is taken, or no address of this host.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| match is_in_vpn(address.ip()) {
        true => format!("grpc.listen_addr: cannot listen on {address}; has an interface the VPN's address (ip address; tailscaled with --tun=userspace-networking gives none), and is the port free (ss -ltnp)?"),
        false => format!("grpc.listen_addr {address}: cannot listen there; choose an address of this host and a free port (see who has it: ss -ltnp)"),
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}
