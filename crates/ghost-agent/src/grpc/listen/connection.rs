//! A connection. Invariant: its caller is known, it holds a place for as long as it is open, and it does
//! not outlive its caller's certificate by more than [`GRACE`].

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use crate::grpc::access::Caller;

/// How long answers that are under way may take when the caller's certificate has expired; new calls
/// are refused from then on (`access`).
const GRACE: Duration = Duration::from_secs(30);

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection whose caller is known.
pub struct Connection {
    io: Box<dyn Io>,
    caller: Caller,
    /// When nothing is heard from it any more.
    end: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn new(io: Box<dyn Io>, caller: Caller, place: OwnedSemaphorePermit) -> Self {
        let end = caller.proven_until().map(|until| {
            let left = Duration::try_from(until.duration_since(Timestamp::now()));
            Box::pin(tokio::time::sleep(left.unwrap_or_default() + GRACE))
        });
        Self { io, caller, end, _place: place }
    }
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
        let ended = self.end.as_mut().is_some_and(|end| end.as_mut().poll(cx).is_ready());
        if ended {
            // As if the other end had hung up.
            return Poll::Ready(Ok(()));
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::sync::Semaphore;

    use super::*;

    fn connection(caller: Caller) -> (Connection, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        let place = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        (Connection::new(Box::new(near), caller, place), far)
    }

    fn certified(seconds: i64) -> Caller {
        let until = Timestamp::now() + SignedDuration::from_secs(seconds);
        Caller::Certificate { peer: ([100, 64, 0, 1], 4000).into(), names: [].into(), until }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_ends_soon_after_its_callers_certificate() {
        let (mut connection, mut far) = connection(certified(3600));
        far.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let began = tokio::time::Instant::now();
        let limit = Duration::from_secs(7200);
        let heard = tokio::time::timeout(limit, connection.read(&mut [0])).await.unwrap();
        assert_eq!(heard.unwrap(), 0, "as if it had hung up");
        let lasted = began.elapsed();
        let most = Duration::from_secs(3601) + GRACE;
        assert!(lasted > Duration::from_secs(3590) && lasted < most, "{lasted:?}");
        far.write_all(b"b").await.unwrap();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "nothing is heard any more");
    }

    #[tokio::test(start_paused = true)]
    async fn the_unix_socket_has_no_end() {
        let (mut connection, mut far) = connection(Caller::Local { uid: 0, pid: None });
        let years = Duration::from_secs(3 * 365 * 86_400);
        assert!(tokio::time::timeout(years, connection.read_u8()).await.is_err());
        far.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
    }
}
