//! Where callers connect. Invariant: a connection reaches the server only after its caller is
//! known; a handshake that stalls holds up nobody else and ends by itself.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::Connected;

use super::access::Caller;
use super::san;

/// Longest TLS handshake.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(10);
/// Most handshakes at once; further ones wait in the kernel's backlog.
const HANDSHAKES: usize = 64;
/// Pause after the kernel refuses to accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection whose caller is known.
pub struct Connection {
    io: Box<dyn Io>,
    caller: Caller,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.io).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

/// What is said to callers on a TCP port.
#[derive(Clone)]
pub enum Security {
    /// Mutual TLS.
    Tls(Arc<rustls::ServerConfig>),
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

/// The doors of the daemon: each accepts until `closing`, all lead into one stream.
#[derive(Debug)]
pub struct Listeners {
    connections: mpsc::Sender<io::Result<Connection>>,
    tasks: TaskTracker,
    closing: CancellationToken,
}

impl Listeners {
    /// No doors yet, and the stream that they will lead into.
    #[must_use]
    pub fn new(
        tasks: TaskTracker,
        closing: CancellationToken,
    ) -> (Self, ReceiverStream<io::Result<Connection>>) {
        let (connections, stream) = mpsc::channel(HANDSHAKES);
        (Self { connections, tasks, closing }, ReceiverStream::new(stream))
    }

    /// Opens a TCP door.
    pub fn tcp(&self, listener: TcpListener, security: Security) {
        let (connections, closing) = (self.connections.clone(), self.closing.clone());
        let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
        let tasks = self.tasks.clone();
        self.tasks.spawn(async move {
            while let Some((stream, peer)) = accept(&closing, || listener.accept()).await {
                let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
                let (connections, security) = (connections.clone(), security.clone());
                tasks.spawn(async move {
                    match prove(stream, peer, security).await {
                        Ok(connection) => drop(connections.send(Ok(connection)).await),
                        Err(error) => tracing::warn!(%peer, %error, "refused a connection"),
                    }
                    drop(permit);
                });
            }
        });
    }

    /// Opens the unix socket.
    pub fn unix(&self, listener: UnixListener) {
        let (connections, closing) = (self.connections.clone(), self.closing.clone());
        self.tasks.spawn(async move {
            while let Some((stream, _)) = accept(&closing, || listener.accept()).await {
                match local(stream) {
                    Ok(connection) => drop(connections.send(Ok(connection)).await),
                    Err(error) => tracing::warn!(%error, "cannot tell who is at the unix socket"),
                }
            }
        });
    }
}

/// The next connection, or `None` when the daemon closes.
async fn accept<T, F: Future<Output = io::Result<T>>>(
    closing: &CancellationToken,
    next: impl Fn() -> F,
) -> Option<T> {
    loop {
        match closing.run_until_cancelled(next()).await? {
            Ok(connection) => return Some(connection),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections now");
                closing.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await?;
            }
        }
    }
}

async fn prove(stream: TcpStream, peer: SocketAddr, security: Security) -> io::Result<Connection> {
    stream.set_nodelay(true)?;
    let config = match security {
        Security::Plain => {
            return Ok(Connection { io: Box::new(stream), caller: Caller::Loopback { peer } });
        }
        Security::Tls(config) => config,
    };
    let handshake = TlsAcceptor::from(config).accept(stream);
    let stream = tokio::time::timeout(HANDSHAKE_LIMIT, handshake).await.map_err(|_| {
        io::Error::new(io::ErrorKind::TimedOut, "the TLS handshake took too long")
    })??;
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
    let names = leaf.map(|der| san::names(der)).unwrap_or_default().into();
    Ok(Connection { io: Box::new(stream), caller: Caller::Certificate { peer, names } })
}

fn local(stream: UnixStream) -> io::Result<Connection> {
    let credentials = stream.peer_cred()?;
    let caller = Caller::Local { uid: credentials.uid(), pid: credentials.pid() };
    Ok(Connection { io: Box::new(stream), caller })
}
