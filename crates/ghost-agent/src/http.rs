//! Health and metrics over HTTP, for whoever watches this host: `/healthz`, `/livez`, `/readyz` and `metrics.path`.
//!
//! Invariant: every answer is made of memory, and who is slow, idle or many costs a bounded number of connections and
//! nobody else's time. On loopback only who asks for this very host is answered, so that no web page can be made to read
//! it (DNS rebinding).

mod answer;
mod document;
mod host;
#[cfg(test)]
mod tests;

pub use document::of as health_document;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::HealthView;
use host::Hosts;

/// Most connections at once; beyond that one is closed as soon as it is there.
const CONNECTIONS: usize = 64;
/// Longest wait for the whole head of a request, the first or the next one on a connection.
const HEAD_LIMIT: Duration = Duration::from_secs(5);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 8 * 1024;
/// Age at which a connection is closed when no answer is under way on it; a scraper connects anew.
const OLD: Duration = Duration::from_secs(60);
/// How much longer an answer that is under way by then may take: the other end does not read.
const LAST_ANSWER: Duration = Duration::from_secs(5);
/// Pause after the kernel refuses to accept, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Gives the metrics and their content type; its argument is the request's `Accept`, if there is one. Never waits.
pub type MetricsPage = Arc<dyn Fn(Option<&str>) -> (String, &'static str) + Send + Sync>;

/// Where the metrics are.
#[derive(Clone)]
pub struct MetricsRoute {
    /// `metrics.path`.
    pub path: String,
    /// What gives them.
    pub page: MetricsPage,
}

impl std::fmt::Debug for MetricsRoute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsRoute").field("path", &self.path).finish_non_exhaustive()
    }
}

/// What can be asked for.
#[derive(Debug, Clone)]
pub struct Pages {
    /// How the agent is.
    pub health: HealthView,
    /// None if `metrics.enabled` is false.
    pub metrics: Option<MetricsRoute>,
}

/// Listens there; port 0 means any free one, and the log says which.
///
/// # Errors
/// If it is taken, or no address of this host; with the remedy.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.with_context(|| {
        format!("metrics.listen_addr {address}: cannot listen there; choose an address of this host and a free port (see who has it: ss -ltnp)")
    })?;
    tracing::info!(http = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Answers until `closing`.
pub async fn serve(
    pages: Pages,
    listener: TcpListener,
    tasks: TaskTracker,
    closing: CancellationToken,
) {
    let hosts = listener.local_addr().map_or(Hosts::Any, Hosts::of_listener);
    let (pages, places) = (Arc::new(pages), Arc::new(Semaphore::new(CONNECTIONS)));
    while let Some(accepted) = closing.run_until_cancelled(listener.accept()).await {
        let Ok((stream, _)) = accepted else {
            closing.run_until_cancelled(tokio::time::sleep(ACCEPT_PAUSE)).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (pages, closing) = (Arc::clone(&pages), closing.clone());
        tasks.spawn(closing.run_until_cancelled_owned(async move {
            converse(pages, hosts, stream).await;
            drop(place);
        }));
    }
}

async fn converse(pages: Arc<Pages>, hosts: Hosts, stream: TcpStream) {
    let respond = service_fn(move |request: Request<Incoming>| {
        let answer = answer::to(&request, &pages, hosts);
        async move { Ok::<_, Infallible>(answer) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), respond);
    let mut connection = std::pin::pin!(connection);
    // How a connection ends is of no interest to the agent.
    if tokio::time::timeout(OLD, connection.as_mut()).await.is_err() {
        connection.as_mut().graceful_shutdown();
        let _ = tokio::time::timeout(LAST_ANSWER, connection).await;
    }
}
