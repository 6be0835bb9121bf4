//! Where agents connect. Invariant: a connection reaches the server only after its caller is known and has
//! a place; who stalls or crowds holds up nobody else.
//!
//! ```text
//! accepted ▶ TLS handshake, within a limit and a share ▶ caller known ▶ place taken ▶ server
//! ```

mod places;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ghost_door::{Handshake, Handshakes, Shares, Sparing};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::caller::{Caller, Proof, proof};
use places::{Place, Places};

/// How many TLS handshakes one address may have under way; this host's has those of many simulated agents.
const SHARES: Shares = Shares { address: 8, loopback: 256 };
/// Longest connection of who has no agent's certificate: to enrol takes one call.
const STRANGERS_STAY: Duration = Duration::from_secs(60);
/// Most connections that have a place and wait for the server's attention.
const QUEUE: usize = 64;

/// A connection whose caller is known, and who has a place.
pub(super) type Connection = ghost_door::Connection<Caller, Place>;

/// What all connections lead through.
#[derive(Debug)]
struct Hall {
    connections: mpsc::Sender<io::Result<Connection>>,
    handshakes: Arc<Handshakes>,
    places: Places,
    refusals: Sparing,
    tls: Arc<rustls::ServerConfig>,
}

/// Why a connection is closed before the server sees it.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("{peer}: {source}")]
    Handshake { peer: SocketAddr, source: io::Error },
    #[error("{caller}: {source}")]
    NoPlace { caller: Caller, source: places::NoPlace },
}

/// Accepts until `closing`; the stream ends then.
pub(super) fn accept(
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    tasks: &TaskTracker,
    closing: CancellationToken,
) -> ReceiverStream<io::Result<Connection>> {
    let (connections, stream) = mpsc::channel(QUEUE);
    let handshakes = Handshakes::new(SHARES);
    let (places, refusals) = Default::default();
    let hall = Arc::new(Hall { connections, handshakes, places, refusals, tls });
    let handshaking = tasks.clone();
    tasks.spawn(async move {
        let next = || ghost_door::accept(&closing, &hall.refusals, || listener.accept());
        while let Some((stream, peer)) = next().await {
            let handshake = hall.handshakes.begin(peer.ip());
            let (hall, closing) = (Arc::clone(&hall), closing.clone());
            handshaking.spawn(closing.run_until_cancelled_owned(async move {
                hall.welcome(handshake, stream, peer).await;
            }));
        }
    });
    ReceiverStream::new(stream)
}

impl Hall {
    /// Hands a proven caller to the server, if there is a place for it.
    async fn welcome(&self, handshake: Handshake, stream: TcpStream, peer: SocketAddr) {
        match self.seat(handshake, stream, peer).await {
            Ok(connection) => drop(self.connections.send(Ok(connection)).await),
            Err(error) => {
                if let Some(left_out) = self.refusals.turn() {
                    tracing::warn!(%error, left_out, "refused a connection");
                }
            }
        }
    }

    async fn seat(
        &self,
        handshake: Handshake,
        stream: TcpStream,
        peer: SocketAddr,
    ) -> Result<Connection, Refused> {
        let refused = |source| Refused::Handshake { peer, source };
        let config = Arc::clone(&self.tls);
        let stream = handshake.tls(stream, config).await.map_err(refused)?;
        let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let caller = Caller { peer, proof: proof(leaf.map(AsRef::as_ref)) };
        match self.places.take(&caller) {
            Ok(place) => {
                let stay = match caller.proof {
                    Proof::Agent(_) => None,
                    Proof::Nothing | Proof::NoAgent => Some(STRANGERS_STAY),
                };
                Ok(Connection::new(Box::new(stream), caller, place, stay))
            }
            Err(source) => Err(Refused::NoPlace { caller, source }),
        }
    }
}
