//! Around everything that is called: each call gets its id here, and what reaches no handler of ours is told, counted and answered like
//! the rest.
//!
//! Invariant: a call is logged and counted once: by [`super::call::Call`], which takes it over, or else here. What a stranger can cause is
//! a line a second at most; all are counted, and told at `DEBUG`.
//!
//! ```text
//! headers ▶ Entry (id, caller) ▶ may he? ▶ is there such a call? ▶ its message ▶ Call::open takes over
//!                                  └────────────── refused ──────────────┘
//! ```

mod refusal;
mod rpc;
#[cfg(test)]
mod tests;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ghost_core::domain::Origin;
use ghost_door::Sparing;
use hyper::{HeaderMap, Request, Response};
use tonic::{Code, Status};
use tower::{Layer, Service};

use super::access::Caller;
use super::call::incoming;
use crate::observability::metrics::{Metrics, code_name};

/// What is told of a path, in bytes: it is the caller's.
const PATH_BYTES: usize = 128;

/// The layer.
#[derive(Debug, Clone)]
pub(super) struct Edge(Arc<Watched>);

#[derive(Debug)]
struct Watched {
    metrics: Arc<Metrics>,
    /// Lines about those who may not call.
    denied: Sparing,
    /// Lines about calls that are none: those who make them are held to no rate.
    mistaken: Sparing,
}

impl Edge {
    /// Counts what it refuses there.
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Watched {
            metrics,
            denied: Sparing::default(),
            mistaken: Sparing::default(),
        }))
    }
}

impl<S> Layer<S> for Edge {
    type Service = Edged<S>;

    fn layer(&self, inner: S) -> Edged<S> {
        Edged { inner, watched: Arc::clone(&self.0) }
    }
}

/// A service with the layer around it.
#[derive(Debug, Clone)]
pub(super) struct Edged<S> {
    inner: S,
    watched: Arc<Watched>,
}

impl<S, B, R> Service<Request<B>> for Edged<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<R>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let entry = Arc::new(Entry::of(&request, &self.watched));
        request.extensions_mut().insert(Arc::clone(&entry));
        let answering = self.inner.call(request);
        let present = Present(entry);
        Box::pin(async move {
            let mut response = answering.await?;
            let whole = response.extensions().get::<Status>().map(refusal::is_of_the_transport);
            present.0.answer(response.headers_mut(), whole.unwrap_or(false));
            Ok(response)
        })
    }
}

/// A call from its headers on, until a handler takes it over.
#[derive(Debug)]
pub(super) struct Entry {
    rpc: &'static str,
    path: String,
    origin: Origin,
    caller: Option<Caller>,
    began: Instant,
    told: AtomicBool,
    watched: Arc<Watched>,
}

impl Entry {
    fn of<B>(request: &Request<B>, watched: &Arc<Watched>) -> Self {
        let path = request.uri().path();
        Self {
            rpc: rpc::named(path),
            path: path.chars().take(PATH_BYTES).collect(),
            origin: incoming::origin(request.headers()),
            caller: request.extensions().get::<Caller>().cloned(),
            began: Instant::now(),
            told: AtomicBool::new(false),
            watched: Arc::clone(watched),
        }
    }

    /// Whoever calls this logs and counts the call from now on.
    pub(super) fn take_over(&self) -> Origin {
        self.told.store(true, Ordering::Relaxed);
        self.origin.clone()
    }

    /// What the call is to be counted with.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.watched.metrics)
    }

    fn trace_id(&self) -> Option<&str> {
        self.origin.traceparent.as_ref().map(|parent| parent.trace_id())
    }

    /// Completes the answer, if no handler of ours has.
    fn answer(&self, headers: &mut HeaderMap, transport: bool) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Ok(id) = self.origin.request_id.as_str().parse() {
            headers.insert(incoming::REQUEST_ID, id);
        }
        match Status::from_header_map(headers).filter(|status| status.code() != Code::Ok) {
            // Health and reflection: a probe may come every second.
            None => tracing::debug!(
                request_id = self.origin.request_id.as_str(),
                trace_id = self.trace_id(),
                rpc = self.rpc,
                caller = self.caller(),
                took = ?self.began.elapsed(),
                "answered"
            ),
            Some(status) => {
                let status = match transport {
                    true => status,
                    false => refusal::of(&status, &self.path),
                };
                let (id, trace) = (self.origin.request_id.as_str(), self.trace_id());
                let (status, reason) = refusal::complete(&status, id, trace);
                refusal::put(&status, headers);
                self.refused(&status, &reason);
            }
        }
    }

    fn caller(&self) -> String {
        self.caller.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    fn refused(&self, status: &Status, reason: &str) {
        let code = status.code();
        self.watched.metrics.call_ended(self.rpc, code, None);
        let denied = matches!(code, Code::PermissionDenied | Code::Unauthenticated);
        let sparing = if denied { &self.watched.denied } else { &self.watched.mistaken };
        macro_rules! line {
            ($level:ident, $left_out:expr) => {
                tracing::$level!(
                    request_id = self.origin.request_id.as_str(),
                    trace_id = self.trace_id(),
                    rpc = self.rpc,
                    path = self.path,
                    caller = self.caller(),
                    code = code_name(code),
                    error_code = reason,
                    error = status.message(),
                    took = ?self.began.elapsed(),
                    left_out = $left_out,
                    "refused"
                )
            };
        }
        match sparing.turn() {
            Some(left_out) if denied => line!(warn, left_out),
            Some(left_out) => line!(info, left_out),
            None => line!(debug, 0_u64),
        }
    }

    /// The caller has left before there was an answer.
    fn left(&self) {
        if self.told.swap(true, Ordering::Relaxed) {
            return;
        }
        self.watched.metrics.call_ended(self.rpc, Code::Cancelled, None);
        macro_rules! line {
            ($level:ident, $left_out:expr) => {
                tracing::$level!(
                    request_id = self.origin.request_id.as_str(),
                    trace_id = self.trace_id(),
                    rpc = self.rpc,
                    caller = self.caller(),
                    code = code_name(Code::Cancelled),
                    took = ?self.began.elapsed(),
                    left_out = $left_out,
                    "cut off"
                )
            };
        }
        match self.watched.mistaken.turn() {
            Some(left_out) => line!(info, left_out),
            None => line!(debug, 0_u64),
        }
    }
}

/// Notices that a call is given up.
#[derive(Debug)]
struct Present(Arc<Entry>);

impl Drop for Present {
    fn drop(&mut self) {
        // One that dies is told by the hook for panics.
        if !std::thread::panicking() {
            self.0.left();
        }
    }
}
