//! Where callers connect. Invariant: a connection reaches the server only after its caller is
//! known and has a place; who stalls or crowds holds up nobody else.
//!
//! ```text
//! accepted ▶ TLS handshake, within a limit and a share ▶ caller known ▶ place taken ▶ server
//! ```

mod places;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{cause, is_in_vpn};
use ghost_door::{Handshake, Handshakes, Io, Shares, Sparing};
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::access::{Access, Caller};
use super::san;
use crate::identity::Identity;
use places::Places;

/// How many TLS handshakes one address may have under way.
const SHARES: Shares = Shares { address: 8, loopback: 64 };
/// How long answers that are under way may take when the caller's certificate has expired; new calls
/// are refused from then on ([`super::access`]).
const GRACE: Duration = Duration::from_secs(30);
/// Most connections that have a place and wait for the server's attention.
const QUEUE: usize = 64;

/// A connection whose caller is known, and who has a place.
pub type Connection = ghost_door::Connection<Caller, OwnedSemaphorePermit>;

/// What is said to callers on a TCP port.
#[derive(Clone)]
pub enum Security {
    /// Mutual TLS, with what is in force when a connection comes.
    Tls(Arc<Identity>),
    /// Nothing; for loopback only.
    Plain,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::Plain => "Plain",
        })
    }
}

/// Who may knock at a TCP port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Callers {
    /// Anyone.
    All,
    /// Who has an address in the VPN. To listen at the VPN's address does not suffice: Linux takes what
    /// is sent to it on every interface, and whoever is in the owner's LAN can route it there.
    OfTheVpn,
}

impl Callers {
    fn include(self, peer: SocketAddr) -> bool {
        match self {
            Self::All => true,
            Self::OfTheVpn => is_in_vpn(peer.ip()),
        }
    }
}

/// The doors of the daemon: each accepts until `closing`, all lead into one stream.
#[derive(Debug)]
pub struct Listeners {
    hall: Arc<Hall>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Listeners {
    /// No doors yet, and the stream that they will lead into. `access` says whose certificate may
    /// command: others get few places.
    #[must_use]
    pub fn new(
        tasks: TaskTracker,
        closing: CancellationToken,
        access: Access,
    ) -> (Self, ReceiverStream<io::Result<Connection>>) {
        let (connections, stream) = mpsc::channel(QUEUE);
        let (places, refusals) = (Places::new(access), Sparing::default());
        let hall = Arc::new(Hall { connections, places, refusals });
        (Self { hall, tasks, closing }, ReceiverStream::new(stream))
    }

    /// Opens a TCP door. It accepts until the daemon closes, or the token is cancelled; whoever is in
    /// by then stays.
    pub fn tcp(
        &self,
        listener: TcpListener,
        security: Security,
        callers: Callers,
    ) -> CancellationToken {
        let (hall, closing) = (Arc::clone(&self.hall), self.closing.clone());
        let (tasks, handshakes) = (self.tasks.clone(), Handshakes::new(SHARES));
        let door = closing.child_token();
        let open = door.clone();
        self.tasks.spawn(async move {
            while let Some((stream, peer)) = hall.accept(&open, || listener.accept()).await {
                if !callers.include(peer) {
                    hall.admit(Err(Refusal::Outsider { peer })).await;
                    continue;
                }
                match &security {
                    Security::Plain => hall.admit(plain(stream, peer)).await,
                    Security::Tls(identity) => {
                        let Some(current) = identity.current() else { continue };
                        let handshake = handshakes.begin(peer.ip());
                        let config = Arc::clone(&current.server);
                        let proving = prove(handshake, stream, peer, config);
                        let (hall, closing) = (Arc::clone(&hall), closing.clone());
                        tasks.spawn(closing.run_until_cancelled_owned(async move {
                            hall.admit(proving.await).await;
                        }));
                    }
                }
            }
        });
        door
    }

    /// Opens the unix socket.
    pub fn unix(&self, listener: UnixListener) {
        let (hall, closing) = (Arc::clone(&self.hall), self.closing.clone());
        self.tasks.spawn(async move {
            while let Some((stream, _)) = hall.accept(&closing, || listener.accept()).await {
                let caller = stream.peer_cred().map(|credentials| Caller::Local {
                    uid: credentials.uid(),
                    pid: credentials.pid(),
                });
                let proven = caller.map(|caller| (Box::new(stream) as Box<dyn Io>, caller));
                hall.admit(proven.map_err(|source| Refusal::Unknown { source })).await;
            }
        });
    }
}

/// Who is at the other end, and how to talk to him.
type Proven = Result<(Box<dyn Io>, Caller), Refusal>;

/// Why a connection is closed before the server sees it.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{peer}: {source}")]
    Handshake { peer: SocketAddr, source: io::Error },
    #[error("{peer} is not in the VPN, and this port is for the VPN only; connect through it")]
    Outsider { peer: SocketAddr },
    #[error("cannot tell who is at the unix socket: {source}")]
    Unknown { source: io::Error },
    #[error("{caller}: {source}")]
    NoPlace { caller: Caller, source: places::NoPlace },
}

/// What all doors lead into.
#[derive(Debug)]
struct Hall {
    connections: mpsc::Sender<io::Result<Connection>>,
    places: Places,
    refusals: Sparing,
}

impl Hall {
    /// The next connection, or `None` when the daemon closes.
    async fn accept<T, F: Future<Output = io::Result<T>>>(
        &self,
        closing: &CancellationToken,
        next: impl Fn() -> F,
    ) -> Option<T> {
        ghost_door::accept(closing, &self.refusals, next).await
    }

    /// Hands a proven caller to the server, if there is a place for him.
    async fn admit(&self, proven: Proven) {
        let seated = proven.and_then(|(io, caller)| match self.places.take(&caller) {
            Ok(place) => {
                let stay = stay(&caller);
                Ok(Connection::new(io, caller, place, stay))
            }
            Err(source) => Err(Refusal::NoPlace { caller, source }),
        });
        match seated {
            Ok(connection) => drop(self.connections.send(Ok(connection)).await),
            Err(error) => {
                if let Some(left_out) = self.refusals.turn() {
                    tracing::warn!(error = cause(&error), left_out, "refused a connection");
                }
            }
        }
    }
}

/// How long the caller may be connected: until a little after the end of its certificate.
fn stay(caller: &Caller) -> Option<Duration> {
    caller.proven_until().map(|until| {
        let left = Duration::try_from(until.duration_since(Timestamp::now()));
        left.unwrap_or_default() + GRACE
    })
}

fn plain(stream: TcpStream, peer: SocketAddr) -> Proven {
    stream.set_nodelay(true).map_err(|source| Refusal::Handshake { peer, source })?;
    Ok((Box::new(stream), Caller::Loopback { peer }))
}

async fn prove(
    handshake: Handshake,
    stream: TcpStream,
    peer: SocketAddr,
    config: Arc<rustls::ServerConfig>,
) -> Proven {
    let refused = |source| Refusal::Handshake { peer, source };
    let stream = handshake.tls(stream, config).await.map_err(refused)?;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let leaf = leaf.map(|der| san::leaf(der)).transpose();
    let leaf = leaf.map_err(|error| refused(io::Error::new(io::ErrorKind::InvalidData, error)))?;
    let (names, until) =
        leaf.map_or_else(|| (Vec::new(), Timestamp::now()), |leaf| (leaf.names, leaf.not_after));
    Ok((Box::new(stream), Caller::Certificate { peer, names: names.into(), until }))
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    fn certified(seconds: i64) -> Caller {
        let until = Timestamp::now() + SignedDuration::from_secs(seconds);
        Caller::Certificate { peer: ([100, 64, 0, 1], 4000).into(), names: [].into(), until }
    }

    #[test]
    fn a_connection_ends_soon_after_its_callers_certificate() {
        let an_hour = stay(&certified(3600)).unwrap();
        assert!(an_hour > Duration::from_secs(3590) + GRACE, "{an_hour:?}");
        assert!(an_hour <= Duration::from_secs(3600) + GRACE, "{an_hour:?}");
        assert_eq!(stay(&certified(-5)), Some(GRACE));
        assert_eq!(stay(&Caller::Local { uid: 0, pid: None }), None);
    }
}
