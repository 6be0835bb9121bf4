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

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use ghost_door::http::Limits;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::health::HealthView;
use host::Hosts;

/// A scrape takes milliseconds, and its head is less than 1 KiB.
const LIMITS: Limits = Limits {
    places: 64,
    head: Duration::from_secs(5),
    head_bytes: 8 * 1024,
    age: Duration::from_secs(60),
    answer: Duration::from_secs(5),
};

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
    let answer = move |request: &_| answer::to(request, &pages, hosts);
    ghost_door::http::serve(answer, LIMITS, listener, tasks, closing).await;
}
