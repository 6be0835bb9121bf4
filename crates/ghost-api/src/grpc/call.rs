//! One call at a door: its id, its span, and its one line in the log.
//!
//! Invariant: each call is told once, when what it asked for has ended, whoever still listens; the answer, good or bad, has the id
//! under which that is found. Who may not call at all, or calls too often, must not fill the log.

use std::time::Duration;

use ghost_core::domain::Origin;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status};
use tracing::field::Empty;
use tracing::{Instrument as _, Span};

use super::status::{self, chain};
use crate::counters::Counters;
use crate::refusal::Refusal;

/// The header of a call's id, both ways.
pub(crate) const REQUEST_ID: &str = "x-request-id";
/// W3C's header of the trace that a call is part of.
pub(crate) const TRACEPARENT: &str = "traceparent";

/// What a method of a door answers with.
pub(super) type Reply<T> = Result<Response<T>, Status>;

/// How loud the end of a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// At the level info: a call of a person, or one that an agent makes seldom.
    Always,
    /// At the level debug: a thousand agents make thirty of them a second.
    OnDemand,
}

/// A call under way.
#[derive(Debug, Clone)]
pub(super) struct Call {
    origin: Origin,
    span: Span,
    began: Instant,
    told: Told,
}

impl Call {
    /// Of `request`; `id` is what it is called by if its headers do not say.
    pub(super) fn open<M>(
        rpc: &'static str,
        request: &Request<M>,
        id: Option<&str>,
        caller: &str,
        told: Told,
    ) -> Self {
        let text = |key| request.metadata().get(key).and_then(|value| value.to_str().ok());
        let given =
            text(REQUEST_ID).filter(|text| text.parse::<ghost_core::domain::CallId>().is_ok());
        let origin = Origin::of_headers(given.or(id), text(TRACEPARENT));
        // At a level that no setting of the log turns off. What is empty is recorded when it is known.
        let span = tracing::error_span!(
            "call",
            rpc,
            request_id = %origin.request_id,
            trace_id = origin.traceparent.as_ref().map(|parent| parent.trace_id()),
            caller,
            agent_id = Empty,
            vm_name = Empty
        );
        Self { origin, span, began: Instant::now(), told }
    }

    /// The command that this call is.
    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The call's.
    pub(super) fn span(&self) -> &Span {
        &self.span
    }

    /// Does `work` to its end, and waits for it no longer than `limit`: what the store has and what is in memory would
    /// differ otherwise.
    pub(super) async fn change<T: Send + 'static>(
        self,
        (tasks, limit, counters): (&TaskTracker, Duration, &Counters),
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Reply<T> {
        let call = self.clone();
        let work = async move {
            let result = work.await;
            call.tell(result.as_ref().err());
            result
        };
        let work = tasks.spawn(work.instrument(self.span.clone()));
        let result = match tokio::time::timeout(limit, work).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(self.telling(Refusal::Died)),
            Err(_) => Err(self.telling(Refusal::Slow)),
        };
        self.reply(result, counters)
    }

    /// Does what is done at once.
    pub(super) fn read<T>(
        self,
        counters: &Counters,
        work: impl FnOnce() -> Result<T, Refusal>,
    ) -> Reply<T> {
        let result = self.span.in_scope(work);
        self.tell(result.as_ref().err());
        self.reply(result, counters)
    }

    fn telling(&self, refusal: Refusal) -> Refusal {
        self.tell(Some(&refusal));
        refusal
    }

    fn reply<T>(&self, result: Result<T, Refusal>, counters: &Counters) -> Reply<T> {
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                self.mark(response.metadata_mut());
                Ok(response)
            }
            Err(refusal) => {
                let mut status = status::refused(&refusal, &self.origin, counters);
                self.mark(status.metadata_mut());
                Err(status)
            }
        }
    }

    fn mark(&self, metadata: &mut MetadataMap) {
        if let Ok(id) = self.origin.request_id.as_str().parse() {
            metadata.insert(REQUEST_ID, id);
        }
    }

    fn tell(&self, refusal: Option<&Refusal>) {
        let _in = self.span.enter();
        let took = self.began.elapsed();
        let Some(refusal) = refusal else {
            let code = Code::Ok;
            match self.told {
                Told::Always => tracing::info!(?code, ?took, "done"),
                Told::OnDemand => tracing::debug!(?code, ?took, "done"),
            }
            return;
        };
        let (code, reason) = status::code(refusal);
        match (refusal, self.told) {
            (Refusal::Store(cause), _) => {
                tracing::error!(?code, reason, error = chain(cause), ?took, "the store failed");
            }
            (Refusal::Authority(cause), _) => {
                tracing::error!(
                    ?code,
                    reason,
                    error = chain(cause),
                    ?took,
                    "no certificate can be made"
                );
            }
            (Refusal::Died, _) => {
                tracing::error!(?code, reason, error = %refusal, ?took, "failed");
            }
            (Refusal::Slow, _) => {
                tracing::warn!(?code, reason, error = %refusal, ?took, "not waited for any longer");
            }
            (
                Refusal::TooOften(_)
                | Refusal::NoCertificate(_)
                | Refusal::CertificateEnded(_)
                | Refusal::Replaced(_)
                | Refusal::AgentUnknown(_)
                | Refusal::AgentRevoked(_),
                _,
            )
            | (_, Told::OnDemand) => {
                tracing::debug!(?code, reason, error = %refusal, ?took, "refused");
            }
            (_, Told::Always) => {
                tracing::info!(?code, reason, error = %refusal, ?took, "refused");
            }
        }
    }
}
