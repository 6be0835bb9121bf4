//! One call at the edge: its id, its one line in the log, and its way into a use case.
//!
//! Invariant: a mutation runs in a tracked task, so that a client that hangs up abandons nothing
//! and a shutdown can wait for it. Each call is counted once: when it was answered, when what it tells has ended, or when its
//! caller has left.

pub(crate) mod incoming;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use ghost_core::domain::{AppError, ErrorKind, Origin};
use tokio_util::task::TaskTracker;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};
use tonic::{Code, Request, Response, Status};
use tracing::Instrument as _;

use super::access::Caller;
use super::edge::Entry;
use super::quotas::Quotas;
use super::status;
use crate::observability::logging;
use crate::observability::metrics::{Limited, Metrics};
use crate::observability::tracing as traces;

/// How old an answer is, in the response's metadata.
const AGE: &str = "x-ghost-age-seconds";

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    rpc: &'static str,
    identity: String,
    origin: Origin,
    /// Of the trace, the caller's or our own.
    trace_id: Option<String>,
    began: Instant,
    span: tracing::Span,
    metrics: Option<Arc<Metrics>>,
    stage: Stage,
    limit: Limited,
    timed: Timed,
}

/// Whether a call was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    UnderWay,
    Ended,
}

/// Whether the time that a call takes says something about the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Timed {
    Answer,
    /// It lasts as long as its caller likes, or a download.
    Stream,
}

impl Call {
    /// Takes the call's message out and notes who sent it.
    pub(super) fn open<M>(rpc: &'static str, request: Request<M>) -> (Self, M) {
        let entry = request.extensions().get::<Arc<Entry>>();
        let origin =
            entry.map_or_else(|| incoming::origin(request.metadata().as_ref()), |e| e.take_over());
        let caller = request.extensions().get::<Caller>();
        let identity = caller.map(Caller::identity).unwrap_or_default();
        let metrics = entry.map(|entry| entry.metrics());
        let caller = caller.map(ToString::to_string).unwrap_or_default();
        let span = span(rpc, &origin, &caller);
        let trace_id = match &origin.traceparent {
            Some(parent) => Some(parent.trace_id().to_owned()),
            None => traces::trace_id(&span),
        };
        if let Some(trace_id) = &trace_id {
            span.record("trace_id", trace_id);
        }
        let began = Instant::now();
        let stage = Stage::UnderWay;
        let (limit, timed) = (Limited::Change, Timed::Answer);
        let call =
            Self { rpc, identity, origin, trace_id, began, span, metrics, stage, limit, timed };
        (call, request.into_inner())
    }

    /// The command that this call is.
    pub(super) fn origin(&self) -> Origin {
        self.origin.clone()
    }

    /// Answers from memory; `age` says how old that is while libvirt is away.
    pub(super) fn read<T>(
        mut self,
        quotas: &Quotas,
        age: Option<Duration>,
        work: impl FnOnce() -> Result<T, AppError>,
    ) -> Result<Response<T>, Status> {
        let result = match self.admitted(quotas, Limited::Read) {
            Ok(()) => self.span.in_scope(work),
            Err(refused) => Err(refused),
        };
        self.close(result).map(|response| aged(response, age))
    }

    /// Runs work that changes something to its end, whoever still listens.
    pub(super) async fn change<T: Send + 'static>(
        mut self,
        quotas: &Arc<Quotas>,
        tasks: &TaskTracker,
        work: impl Future<Output = Result<T, AppError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        if tasks.is_closed() {
            return self.close(Err(shutting_down()));
        }
        if let Err(refused) = self.admitted(quotas, Limited::Change) {
            return self.close(Err(refused));
        }
        let quotas = Arc::clone(quotas);
        let (span, rpc) = (self.span.clone(), self.rpc);
        let (origin, trace_id, began) = (self.origin(), self.trace_id.clone(), self.began);
        // The last line is written by the task: it comes even when the client is gone by then.
        let in_turn = async move {
            let _turn = quotas.turn().await;
            work.await
        };
        let work = async move { self.close(in_turn.await) }.instrument(span.clone());
        tasks.spawn(work).await.unwrap_or_else(|died| {
            let error = AppError::new(ErrorKind::Internal, format!("{rpc} died")).because(died);
            span.in_scope(|| log(&error, began.elapsed(), Limited::Change));
            let id = origin.request_id.as_str();
            let mut status = status::of_call(&error, id, trace_id.as_deref());
            answer_with(status.metadata_mut(), id.parse().ok());
            Err(status)
        })
    }

    /// Answers with what `work` finds out; nothing is left half-done if the client hangs up meanwhile.
    pub(super) async fn ask<T>(
        mut self,
        quotas: &Quotas,
        limit: Limited,
        work: impl Future<Output = Result<T, AppError>>,
    ) -> Result<Response<T>, Status> {
        let result = match self.admitted(quotas, limit) {
            Ok(()) => work.instrument(self.span.clone()).await,
            Err(refused) => Err(refused),
        };
        self.close(result)
    }

    /// Tells one thing after another; the last line comes when all is told, with the failure, or when the caller has left.
    pub(super) fn tell<T: Send + 'static>(
        mut self,
        quotas: &Quotas,
        limit: Limited,
        begin: impl FnOnce() -> Result<BoxStream<'static, Result<T, AppError>>, AppError>,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        self.timed = Timed::Stream;
        let begun = match self.admitted(quotas, limit) {
            Ok(()) => self.span.in_scope(begin),
            Err(refused) => Err(refused),
        };
        let told = match begun {
            Ok(told) => told,
            Err(error) => return self.close(Err(error)),
        };
        let next = |state: Option<(Self, BoxStream<'static, Result<T, AppError>>)>| async {
            let (call, mut told) = state?;
            match told.next().await {
                Some(Ok(item)) => Some((Ok(item), Some((call, told)))),
                Some(Err(error)) => Some((Err(call.close::<()>(Err(error)).err()?), None)),
                None => {
                    let _done = call.close(Ok(()));
                    None
                }
            }
        };
        let id = self.id_header();
        let mut response = Response::new(stream::unfold(Some((self, told)), next).boxed());
        answer_with(response.metadata_mut(), id);
        Ok(response)
    }

    fn close<T>(mut self, result: Result<T, AppError>) -> Result<Response<T>, Status> {
        let span = self.span.clone();
        let _in = span.enter();
        let (took, id) = (self.began.elapsed(), self.id_header());
        match result {
            Ok(message) => {
                tracing::info!(rpc = self.rpc, ?took, "done");
                self.ended(Code::Ok);
                let mut response = Response::new(message);
                answer_with(response.metadata_mut(), id);
                Ok(response)
            }
            Err(error) => {
                log(&error, took, self.limit);
                let request_id = self.origin.request_id.as_str();
                let mut status = status::of_call(&error, request_id, self.trace_id.as_deref());
                answer_with(status.metadata_mut(), id);
                self.ended(status.code());
                Err(status)
            }
        }
    }

    fn id_header(&self) -> Option<MetadataValue<Ascii>> {
        self.origin.request_id.as_str().parse().ok()
    }

    fn admitted(&mut self, quotas: &Quotas, limit: Limited) -> Result<(), AppError> {
        self.limit = limit;
        let admitted = match limit {
            Limited::Read => quotas.read(&self.identity),
            Limited::Change => quotas.change(&self.identity),
        };
        admitted.inspect_err(|_| {
            if let Some(metrics) = &self.metrics {
                metrics.rate_limited(limit);
            }
        })
    }

    /// Counts the call, if it was not yet.
    fn ended(&mut self, code: Code) {
        if self.stage == Stage::Ended {
            return;
        }
        self.stage = Stage::Ended;
        traces::ended(&self.span, code);
        if let Some(metrics) = &self.metrics {
            let took = match self.timed {
                Timed::Answer => Some(self.began.elapsed()),
                Timed::Stream => None,
            };
            metrics.call_ended(self.rpc, code, took);
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // Its caller has left before the end, or the agent ends; or it died, of which others tell.
        let code = if std::thread::panicking() { Code::Internal } else { Code::Cancelled };
        if self.stage == Stage::UnderWay && code == Code::Cancelled {
            let took = self.began.elapsed();
            self.span.in_scope(|| tracing::info!(rpc = self.rpc, ?took, "cut off"));
        }
        self.ended(code);
    }
}

/// At a level that no setting of the log turns off: a line without its ids helps nobody. What is empty is recorded
/// when it is known.
fn span(rpc: &'static str, origin: &Origin, caller: &str) -> tracing::Span {
    use tracing::field::Empty;
    let request_id = origin.request_id.as_str();
    let span = tracing::error_span!(
        "call",
        rpc,
        request_id,
        caller,
        trace_id = Empty,
        vm_id = Empty,
        vm_name = Empty
    );
    if let Some(parent) = &origin.traceparent {
        traces::continue_from(&span, parent);
    }
    span
}

fn answer_with(metadata: &mut MetadataMap, id: Option<MetadataValue<Ascii>>) {
    if let Some(id) = id {
        metadata.insert(incoming::REQUEST_ID, id);
    }
}

/// Says how old the answer is.
pub(super) fn aged<T>(mut response: Response<T>, age: Option<Duration>) -> Response<T> {
    if let Some(age) = age {
        response.metadata_mut().insert(AGE, age.as_secs().into());
    }
    response
}

/// The level says whose fault it is: the caller's is none of ours; that libvirt is away was told once, when it left.
fn log(error: &AppError, took: Duration, limit: Limited) {
    let (own, others): (Vec<_>, Vec<_>) =
        error.context().iter().partition(|(key, _)| matches!(*key, "vm_id" | "vm_name"));
    let own = |name| own.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str());
    let (vm_id, vm_name) = (own("vm_id"), own("vm_name"));
    let facts: Vec<_> = others.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let facts = facts.join(", ");
    let facts = Some(facts).filter(|facts| !facts.is_empty());
    // Its class, its causes and where it was found are written with it.
    let (kind, error) = (error.kind(), logging::cause(error));
    match kind {
        ErrorKind::Validation
        | ErrorKind::NotFound
        | ErrorKind::NameTaken
        | ErrorKind::Busy
        | ErrorKind::WrongState => tracing::info!(error, vm_id, vm_name, facts, ?took, "refused"),
        // Not a line for each: who calls too often must not fill the log.
        ErrorKind::TooManyCalls => tracing::debug!(error, vm_id, vm_name, facts, ?took, "refused"),
        ErrorKind::ResourceLimit | ErrorKind::ShuttingDown => {
            tracing::warn!(error, vm_id, vm_name, facts, ?took, "refused");
        }
        ErrorKind::HypervisorUnavailable => match limit {
            Limited::Read => tracing::info!(error, vm_id, vm_name, facts, ?took, "failed"),
            Limited::Change => tracing::warn!(error, vm_id, vm_name, facts, ?took, "failed"),
        },
        ErrorKind::HypervisorFailed
        | ErrorKind::AddressTimeout
        | ErrorKind::NetworkUnavailable
        | ErrorKind::Internal => tracing::error!(error, vm_id, vm_name, facts, ?took, "failed"),
    }
}

/// An error and its causes in one line; a cause that its consequence quotes already is left out.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    for cause in std::iter::successors(error.source(), |e| e.source()) {
        let cause = cause.to_string();
        if !line.contains(&cause) {
            line = format!("{line} (cause: {cause})");
        }
    }
    line
}

fn shutting_down() -> AppError {
    AppError::new(ErrorKind::ShuttingDown, "the agent is shutting down")
        .remedy("try again when it is back")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_named_once() {
        let quoted = AppError::new(ErrorKind::Internal, "cannot read: disk on fire")
            .because(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&quoted), "cannot read: disk on fire");
        let hidden = AppError::new(ErrorKind::Internal, "cannot read").remedy("look at the disk");
        let hidden = hidden.because(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&hidden), "cannot read; look at the disk (cause: disk on fire)");
    }

    #[tokio::test]
    async fn a_call_that_dies_is_found_by_its_id() {
        let mut request = Request::new(());
        request.metadata_mut().insert(incoming::REQUEST_ID, "mine".parse().unwrap());
        let (call, ()) = Call::open("StartVM", request);
        let quotas = Arc::new(Quotas::new(&crate::config::Rates {
            client_reads_per_s: 3,
            all_reads_per_s: 5,
            client_changes_per_s: 1,
            all_changes_per_s: 100,
            changes_at_once: 1,
        }));
        let dying = async { panic!("died") };
        let died = call.change::<()>(&quotas, &TaskTracker::new(), dying).await.unwrap_err();
        assert_eq!(
            (died.code(), died.metadata().get(incoming::REQUEST_ID).unwrap().to_str().unwrap()),
            (Code::Internal, "mine")
        );
        assert!(died.message().ends_with("request_id mine"), "{}", died.message());
    }
}
