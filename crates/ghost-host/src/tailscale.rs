//! Tailscale's client on this host, asked over its LocalAPI: HTTP/1.1 on tailscaled's unix socket.
//!
//! Invariant: whatever is at the other end, an answer takes no longer than `LIMIT` and no more memory
//! than `LARGEST`, and is understood or refused. Nothing is ever changed there.
//!
//! Source of the format: `ipn/ipnstate` (`Status`, `PeerStatus`) and `client/local` in Tailscale's
//! repository; Headscale's clients are the same program.

mod answer;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{Either, select};
use ghost_core::domain::{AppError, ErrorKind, VpnState, VpnStatus};
use ghost_core::ports::{PortResult, Vpn};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// Longest answer: tailscaled answers from memory, within milliseconds.
const LIMIT: Duration = Duration::from_secs(5);
/// Largest answer, about 1,500 peers; with more of them they are not asked for.
const LARGEST: usize = 1 << 20;
/// The only host whose requests tailscaled answers, against browsers that were led astray.
const HOST: &str = "local-tailscaled.sock";

/// Why tailscaled can't be asked.
#[derive(Debug, thiserror::Error)]
pub enum TailscaleError {
    /// Nobody is at the socket, or it may not be opened.
    #[error("cannot reach tailscaled at {}", path.display())]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It takes too long.
    #[error("tailscaled did not answer within {LIMIT:?}")]
    Silent,
    /// It does not speak HTTP, or hung up.
    #[error("tailscaled's answer broke off or is no HTTP")]
    Broken(#[source] hyper::Error),
    /// It refuses.
    #[error("tailscaled answered with HTTP status {0}")]
    Refused(StatusCode),
    /// It says too much.
    #[error("tailscaled's answer has more than {LARGEST} bytes")]
    TooLarge,
    /// What it says can't be understood.
    #[error("tailscaled's answer is no status: {0}")]
    Garbage(String),
}

impl From<TailscaleError> for AppError {
    fn from(error: TailscaleError) -> Self {
        let remedy = match &error {
            TailscaleError::Unreachable { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied => {
                    "let the agent's user open the socket (tailscaled makes it 0666), or correct vpn.socket"
                }
                _ => "start it: systemctl start tailscaled; or correct vpn.socket",
            },
            TailscaleError::Silent => "look at journalctl -u tailscaled, or restart it",
            TailscaleError::Broken(_)
            | TailscaleError::Refused(_)
            | TailscaleError::TooLarge
            | TailscaleError::Garbage(_) => {
                "is vpn.socket tailscaled's, and its version not older than 1.20? see: tailscale version"
            }
        };
        let app = Self::new(ErrorKind::NetworkUnavailable, error.to_string()).remedy(remedy);
        app.because(error)
    }
}

/// tailscaled at a socket.
#[derive(Debug, Clone)]
pub struct Tailscale {
    socket: PathBuf,
}

impl Tailscale {
    /// At that socket, which need not be there.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// Asks once.
    ///
    /// # Errors
    /// See [`TailscaleError`].
    pub async fn ask(&self) -> Result<VpnStatus, TailscaleError> {
        let asking = async {
            match self.get("/localapi/v0/status").await {
                // In a large network the peers alone are more than that.
                Err(TailscaleError::TooLarge) => self.get("/localapi/v0/status?peers=false").await,
                other => other,
            }
        };
        match tokio::time::timeout(LIMIT, asking).await {
            Ok(Ok(body)) => answer::understand(&body),
            Ok(Err(TailscaleError::Unreachable { source, .. })) if is_absent(&source) => {
                Ok(VpnStatus::without_network(VpnState::NotInstalled))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(TailscaleError::Silent),
        }
    }

    async fn get(&self, path: &str) -> Result<Bytes, TailscaleError> {
        let unreachable =
            |source| TailscaleError::Unreachable { path: self.socket.clone(), source };
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(TailscaleError::Broken)?;
        let request = Request::get(path).header("host", HOST).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| unreachable(io::Error::other(error)))?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(TailscaleError::Broken)?;
            if response.status() != StatusCode::OK {
                return Err(TailscaleError::Refused(response.status()));
            }
            let body = Limited::new(response.into_body(), LARGEST).collect().await;
            body.map(http_body_util::Collected::to_bytes).map_err(broken_body)
        };
        match select(pin!(exchange), pin!(connection)).await {
            Either::Left((answered, _)) => answered,
            // What the connection had heard before it ended is still to be read.
            Either::Right((_, exchange)) => exchange.await,
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn broken_body(error: Box<dyn std::error::Error + Send + Sync>) -> TailscaleError {
    if error.is::<LengthLimitError>() {
        return TailscaleError::TooLarge;
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => TailscaleError::Broken(*error),
        Err(other) => TailscaleError::Garbage(other.to_string()),
    }
}

#[async_trait]
impl Vpn for Tailscale {
    async fn status(&self) -> PortResult<VpnStatus> {
        Ok(self.ask().await?)
    }
}
