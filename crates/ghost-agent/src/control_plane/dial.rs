//! A channel to the control plane: one TLS 1.3 connection, made when it is needed, given up when it does not answer.
//!
//! Invariant: what the other side says of our certificate is not lost: under TLS 1.3 it comes after the handshake, and
//! HTTP/2 would only say that the connection broke.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use ghost_core::domain::AppError;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::target::Target;

/// How long connecting, TLS included, may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// How often, and for how long, a connection is asked whether it lives.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);

/// The most bytes of headers in an answer.
const MAX_HEADER_BYTES: u32 = 16 << 10;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    #[error(transparent)]
    NotThere(AppError),
    #[error("cannot connect")]
    Tcp(#[source] io::Error),
    #[error("cannot agree on TLS")]
    Tls(#[source] io::Error),
    #[error("no connection in {} s", CONNECT_LIMIT.as_secs())]
    TooLong,
}

/// What TLS said that ended a connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Verdict(Arc<Mutex<Option<rustls::Error>>>);

impl Verdict {
    /// Takes it.
    pub(super) fn take(&self) -> Option<rustls::Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn note(&self, error: &io::Error) {
        if let Some(tls) = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(tls.clone());
        }
    }
}

/// A channel that connects at its first call, and again whenever it has to.
pub(super) fn channel(target: &Target, tls: Arc<ClientConfig>, verdict: &Verdict) -> Channel {
    let (target, verdict) = (target.clone(), verdict.clone());
    let connector = service_fn(move |_: tonic::codegen::http::Uri| {
        let (target, tls, verdict) = (target.clone(), Arc::clone(&tls), verdict.clone());
        async move {
            let connected = timeout(CONNECT_LIMIT, connect(&target, tls)).await;
            let stream = connected.unwrap_or(Err(DialError::TooLong))?;
            Ok::<_, DialError>(TokioIo::new(Watched { stream, verdict }))
        }
    });
    // The authority names no host: who answers was proven below HTTP.
    Endpoint::from_static("http://control-plane.ghost")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .connect_with_connector_lazy(connector)
}

async fn connect(
    target: &Target,
    tls: Arc<ClientConfig>,
) -> Result<TlsStream<TcpStream>, DialError> {
    let addresses = target.addresses().await?;
    let tcp = TcpStream::connect(addresses.as_slice()).await.map_err(DialError::Tcp)?;
    // Calls are small and each is waited for: a delay would only add to the round trip.
    tcp.set_nodelay(true).map_err(DialError::Tcp)?;
    TlsConnector::from(tls).connect(target.name(), tcp).await.map_err(DialError::Tls)
}

/// A stream that remembers why TLS ended it.
#[derive(Debug)]
struct Watched {
    stream: TlsStream<TcpStream>,
    verdict: Verdict,
}

impl Watched {
    fn seen<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if let Poll::Ready(Err(error)) = &polled {
            self.verdict.note(error);
        }
        polled
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.seen(polled)
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.seen(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.seen(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.seen(polled)
    }
}
