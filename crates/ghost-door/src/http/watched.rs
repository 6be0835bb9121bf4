//! What tells a place how its answer gets on. Invariant: an answer is over once its body was handed over whole and nothing of
//! it waits for the kernel; hyper flushes its stream only when it holds nothing back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http_body_util::Full;
use hyper::body::{Bytes, Frame, SizeHint};
use hyper::rt::ReadBufCursor;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::places::Place;

/// A connection that tells when it is flushed.
#[derive(Debug)]
pub(super) struct Stream {
    io: TokioIo<TcpStream>,
    // After the stream: the place is free when that is closed.
    place: Arc<Place>,
}

impl Stream {
    pub(super) fn new(stream: TcpStream, place: Arc<Place>) -> Self {
        Self { io: TokioIo::new(stream), place }
    }
}

impl hyper::rt::Read for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl hyper::rt::Write for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_flush(cx))?;
        self.place.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }
}

/// An answer's body that tells when hyper has taken all it wants of it.
#[derive(Debug)]
pub(super) struct Body {
    page: Full<Bytes>,
    place: Arc<Place>,
}

impl Body {
    pub(super) fn new(page: Full<Bytes>, place: Arc<Place>) -> Self {
        Self { page, place }
    }
}

impl hyper::body::Body for Body {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Pin::new(&mut self.page).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.page.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.page.size_hint()
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.place.written();
    }
}
