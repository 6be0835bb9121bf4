//! One call at the edge: its id, its one line in the log, and its way into a use case.
//!
//! Invariant: a mutation runs in a tracked task, so that a client that hangs up abandons nothing
//! and a shutdown can wait for it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::stream::{self, BoxStream, StreamExt as _};
use ghost_core::domain::{AppError, ErrorKind};
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument as _;

use super::access::Caller;
use super::quotas::Quotas;
use super::status;

/// How old an answer is, in the response's metadata.
const AGE: &str = "x-ghost-age-seconds";
/// Longest id that is taken from a caller.
const ID_BYTES: usize = 128;

/// A call under way.
#[derive(Debug)]
pub(super) struct Call {
    rpc: &'static str,
    identity: String,
    request_id: String,
    began: Instant,
    span: tracing::Span,
}

impl Call {
    /// Takes the call's message out and notes who sent it.
    pub(super) fn open<M>(rpc: &'static str, request: Request<M>) -> (Self, M) {
        let request_id = request_id(request.metadata());
        let caller = request.extensions().get::<Caller>();
        let identity = caller.map(Caller::identity).unwrap_or_default();
        let caller = caller.map(ToString::to_string).unwrap_or_default();
        let span = tracing::info_span!("call", rpc, request_id, caller);
        (Self { rpc, identity, request_id, began: Instant::now(), span }, request.into_inner())
    }

    /// Answers from memory; `age` says how old that is while libvirt is away.
    pub(super) fn read<T>(
        self,
        quotas: &Quotas,
        age: Option<Duration>,
        work: impl FnOnce() -> Result<T, AppError>,
    ) -> Result<Response<T>, Status> {
        let result = match quotas.read(&self.identity) {
            Ok(()) => self.span.in_scope(work),
            Err(refused) => Err(refused),
        };
        let mut response = self.close(result)?;
        if let Some(age) = age {
            response.metadata_mut().insert(AGE, age.as_secs().into());
        }
        Ok(response)
    }

    /// Runs work that changes something to its end, whoever still listens.
    pub(super) async fn change<T: Send + 'static>(
        self,
        quotas: &Arc<Quotas>,
        tasks: &TaskTracker,
        work: impl Future<Output = Result<T, AppError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        if tasks.is_closed() {
            return self.close(Err(shutting_down()));
        }
        if let Err(refused) = quotas.change(&self.identity) {
            return self.close(Err(refused));
        }
        let quotas = Arc::clone(quotas);
        let span = self.span.clone();
        // The last line is written by the task: it comes even when the client is gone by then.
        let in_turn = async move {
            let _turn = quotas.turn().await;
            work.await
        };
        let task = tasks.spawn(async move { self.close(in_turn.await) }.instrument(span));
        task.await.unwrap_or_else(|died| {
            tracing::error!(error = %died, "a task died");
            Err(Status::internal("the agent failed; its log says why"))
        })
    }

    /// Answers with what `work` finds out; nothing is left half-done if the client hangs up meanwhile.
    pub(super) async fn ask<T>(
        self,
        admitted: impl FnOnce(&str) -> Result<(), AppError>,
        work: impl Future<Output = Result<T, AppError>>,
    ) -> Result<Response<T>, Status> {
        let result = match admitted(&self.identity) {
            Ok(()) => work.instrument(self.span.clone()).await,
            Err(refused) => Err(refused),
        };
        self.close(result)
    }

    /// Tells one thing after another; the last line comes when all is told, or with the failure.
    pub(super) fn tell<T: Send + 'static>(
        self,
        admitted: impl FnOnce(&str) -> Result<(), AppError>,
        told: BoxStream<'static, Result<T, AppError>>,
    ) -> Result<Response<BoxStream<'static, Result<T, Status>>>, Status> {
        if let Err(refused) = admitted(&self.identity) {
            return self.close(Err(refused));
        }
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
        Ok(Response::new(stream::unfold(Some((self, told)), next).boxed()))
    }

    fn close<T>(self, result: Result<T, AppError>) -> Result<Response<T>, Status> {
        let _in = self.span.enter();
        let took = self.began.elapsed();
        match result {
            Ok(message) => {
                tracing::info!(rpc = self.rpc, ?took, "done");
                Ok(Response::new(message))
            }
            Err(error) => {
                log(&error, took);
                Err(status::from_error(&error, &self.request_id))
            }
        }
    }
}

fn log(error: &AppError, took: Duration) {
    let (error_code, chain) = (error.code().as_str(), chain(error));
    let facts = error.context().iter().map(|(key, value)| format!("{key}={value}"));
    let facts = facts.collect::<Vec<_>>().join(", ");
    match error.kind() {
        ErrorKind::Validation
        | ErrorKind::NotFound
        | ErrorKind::NameTaken
        | ErrorKind::Busy
        | ErrorKind::WrongState => tracing::info!(error_code, chain, facts, ?took, "refused"),
        // Not a line for each: who calls too often must not fill the log.
        ErrorKind::TooManyCalls => tracing::debug!(error_code, chain, facts, ?took, "refused"),
        ErrorKind::ResourceLimit | ErrorKind::ShuttingDown => {
            tracing::warn!(error_code, chain, facts, ?took, "refused");
        }
        ErrorKind::HypervisorUnavailable
        | ErrorKind::HypervisorFailed
        | ErrorKind::AddressTimeout
        | ErrorKind::NetworkUnavailable
        | ErrorKind::Internal => tracing::error!(error_code, chain, facts, ?took, "failed"),
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

/// The caller's id of the call (`x-request-id`, or the trace id of W3C's `traceparent`), or one
/// of our own.
fn request_id(metadata: &MetadataMap) -> String {
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok());
    let given = text("x-request-id").or_else(|| text("traceparent")?.split('-').nth(1));
    given
        .filter(|id| (1..=ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic()))
        .map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_of(pairs: &[(&'static str, &str)]) -> String {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            metadata.insert(*key, value.parse().unwrap());
        }
        request_id(&metadata)
    }

    #[test]
    fn the_callers_id_is_kept() {
        assert_eq!(id_of(&[("x-request-id", "abc"), ("traceparent", "00-def-1-01")]), "abc");
        assert_eq!(
            id_of(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")]),
            "4bf92f3577b34da6a3ce929d0e0e4736"
        );
    }

    #[test]
    fn a_cause_is_named_once() {
        let quoted = AppError::new(ErrorKind::Internal, "cannot read: disk on fire")
            .because(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&quoted), "cannot read: disk on fire");
        let hidden = AppError::new(ErrorKind::Internal, "cannot read").remedy("look at the disk");
        let hidden = hidden.because(std::io::Error::other("disk on fire"));
        assert_eq!(chain(&hidden), "cannot read; look at the disk (cause: disk on fire)");
    }

    #[test]
    fn an_absurd_id_is_replaced() {
        let long = "x".repeat(ID_BYTES + 1);
        for wrong in ["", "has space", long.as_str()] {
            assert_eq!(id_of(&[("x-request-id", wrong)]).len(), 36);
        }
    }
}
