//! A connection. Invariant: its caller is known, it holds a place for as long as it is open, and from its end on
//! nothing is heard from it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tonic::transport::server::Connected;

/// Both directions of a connection.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// A connection whose caller `C` is known; `P` is its place, which is free when it is dropped.
pub struct Connection<C, P> {
    io: Box<dyn Io>,
    caller: C,
    end: Option<Pin<Box<Sleep>>>,
    _place: P,
}

impl<C, P> Connection<C, P> {
    /// After `stay`, nothing is heard from it any more, as if the caller had hung up; `None` for no end.
    #[must_use]
    pub fn new(io: Box<dyn Io>, caller: C, place: P, stay: Option<Duration>) -> Self {
        let end = stay.map(|stay| Box::pin(tokio::time::sleep(stay)));
        Self { io, caller, end, _place: place }
    }
}

impl<C: fmt::Debug, P> fmt::Debug for Connection<C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("caller", &self.caller).finish_non_exhaustive()
    }
}

impl<C: Clone + Send + Sync + 'static, P> Connected for Connection<C, P> {
    type ConnectInfo = C;

    fn connect_info(&self) -> C {
        self.caller.clone()
    }
}

impl<C: Unpin, P: Unpin> AsyncRead for Connection<C, P> {
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

impl<C: Unpin, P: Unpin> AsyncWrite for Connection<C, P> {
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

    use super::*;

    fn connection(stay: Option<Duration>) -> (Connection<&'static str, ()>, DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Connection::new(Box::new(near), "anna", (), stay), far)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_is_heard_from_a_connection_after_its_end() {
        let stay = Duration::from_secs(3600);
        let (mut connection, mut far) = connection(Some(stay));
        far.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
        let began = tokio::time::Instant::now();
        let heard = tokio::time::timeout(stay * 2, connection.read(&mut [0])).await.unwrap();
        assert_eq!(heard.unwrap(), 0, "as if it had hung up");
        assert!(began.elapsed() >= stay - Duration::from_secs(1), "{:?}", began.elapsed());
        far.write_all(b"b").await.unwrap();
        assert_eq!(connection.read(&mut [0]).await.unwrap(), 0, "nothing is heard any more");
    }

    #[tokio::test(start_paused = true)]
    async fn one_without_an_end_stays() {
        let (mut connection, mut far) = connection(None);
        let years = Duration::from_secs(3 * 365 * 86_400);
        assert!(tokio::time::timeout(years, connection.read_u8()).await.is_err());
        far.write_all(b"a").await.unwrap();
        assert_eq!(connection.read_u8().await.unwrap(), b'a');
    }
}
