//! Where the control plane is. Invariant: a host and a port that a certificate can be checked against.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use rustls_pki_types::ServerName;
use url::Url;

use ghost_core::domain::ApiReach;
use ghost_core::domain::control::ControlError;

use super::dial::DialError;

/// The host and port of `agent.api_url`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    reach: ApiReach,
}

impl Target {
    /// Of an `https://` URL.
    ///
    /// # Errors
    /// Refused, if no certificate can name its host.
    pub fn of(url: &Url, reach: ApiReach) -> Result<Self, ControlError> {
        let wrong = || ControlError::refused(format!("agent.api_url {url} names no host"));
        let host = url.host_str().ok_or_else(wrong)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
        Ok(Self { host, port: url.port_or_known_default().unwrap_or(443), name, reach })
    }

    /// Where it may be talked to.
    ///
    /// # Errors
    /// Its name is unknown, or it is nowhere in the VPN and must be.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, DialError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let found: Vec<IpAddr> = found.map_err(DialError::Tcp)?.map(|at| at.ip()).collect();
        let permitted = self.reach.permitted(&self.host, &found).map_err(DialError::NotThere)?;
        Ok(permitted.into_iter().map(|ip| SocketAddr::new(ip, self.port)).collect())
    }

    pub(super) fn name(&self) -> ServerName<'static> {
        self.name.clone()
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}
