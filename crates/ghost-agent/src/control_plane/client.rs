//! The port `ControlPlane` over gRPC.
//!
//! Invariants: every call ends within 10 s; a call under way ends on the connection, and with the certificate, that it began
//! with; an answer above 1 MiB is not read; what is logged in the span that a call was made in has the call's id.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ghost_core::domain::CallId;
use ghost_core::domain::control::{
    Beat, ControlError, HeartbeatReport, Registered, Registration, VmEvent,
};
use ghost_core::ports::{ControlPlane, ControlResult};
use ghost_proto::controlplane::control_plane_client::ControlPlaneClient;
use ghost_proto::controlplane::{RenewRequest, RenewResponse, ReportEventsRequest};
use tokio::time::timeout;
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};
use tracing::Span;
use uuid::Uuid;

use super::credentials::{CredentialSource, Credentials};
use super::dial::{self, Verdict};
use super::target::Target;
use super::{convert, failure};
use crate::grpc::call::incoming::{REQUEST_ID, TRACEPARENT};
use crate::observability::tracing as traces;

/// How long a call may take.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The fields of the span (`ghost_core::ports::call_span`) by which a call is found.
const ID: &str = "request_id";
const TRACE: &str = "trace_id";

/// The longest answer that is read, in bytes.
const LONGEST_ANSWER: usize = 1 << 20;

pub(super) type Client = ControlPlaneClient<Channel>;

/// The control plane at one place.
#[derive(Debug)]
pub struct GrpcControlPlane {
    target: Target,
    credentials: CredentialSource,
    connection: Mutex<Option<Connection>>,
    limit: Duration,
}

#[derive(Debug, Clone)]
struct Connection {
    /// What it was made with.
    with: Arc<Credentials>,
    client: Client,
    verdict: Verdict,
}

impl GrpcControlPlane {
    /// Connects at the first call.
    #[must_use]
    pub fn new(target: Target, credentials: CredentialSource) -> Self {
        Self { target, credentials, connection: Mutex::default(), limit: CALL_LIMIT }
    }

    #[cfg(test)]
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Exchanges the certificate that is in use for a newer one.
    ///
    /// # Errors
    /// As of the port.
    pub async fn renew(&self, csr: Vec<u8>) -> ControlResult<RenewResponse> {
        let renew = async |mut client: Client, request| client.renew(request).await;
        self.call(RenewRequest { csr }, renew).await
    }

    async fn call<M, A>(
        &self,
        message: M,
        rpc: impl AsyncFnOnce(Client, Request<M>) -> Result<Response<A>, Status>,
    ) -> ControlResult<A> {
        let Connection { client, verdict, .. } = self.connection()?;
        call((&self.target, self.limit), client, &verdict, message, rpc).await
    }

    /// The connection in use, or a new one if the certificate is another since.
    fn connection(&self) -> ControlResult<Connection> {
        let with = self.credentials.current().ok_or_else(|| {
            ControlError::refused(
                "the agent has no certificate; set GHOST_API_KEY to a key of the control plane to enrol it",
            )
        })?;
        let mut connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        match &*connection {
            Some(current) if Arc::ptr_eq(&current.with, &with) => Ok(current.clone()),
            Some(_) | None => {
                let verdict = Verdict::default();
                let channel = dial::channel(&self.target, Arc::clone(&with.client), &verdict);
                let new = Connection { with, client: client(channel), verdict };
                // The former one ends with the last call on it.
                *connection = Some(new.clone());
                Ok(new)
            }
        }
    }

    fn proper<T>(&self, parsed: Result<T, &'static str>) -> ControlResult<T> {
        parsed.map_err(|what| failure::garbled(what, &self.target))
    }
}

/// The generated client, with our limits.
pub(super) fn client(channel: Channel) -> Client {
    ControlPlaneClient::new(channel).max_decoding_message_size(LONGEST_ANSWER)
}

/// One call, with its end, and an id by which the control plane's log and ours find it: the span that it is made in gets it.
pub(super) async fn call<M, A>(
    (target, limit): (&Target, Duration),
    client: Client,
    verdict: &Verdict,
    message: M,
    rpc: impl AsyncFnOnce(Client, Request<M>) -> Result<Response<A>, Status>,
) -> ControlResult<A> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    let span = Span::current();
    identify(request.metadata_mut(), &CallId::generate(), &span);
    let answer = timeout(limit, rpc(client, request)).await;
    let code = match &answer {
        Ok(Ok(_)) => Code::Ok,
        Ok(Err(status)) => status.code(),
        Err(_) => Code::DeadlineExceeded,
    };
    traces::ended(&span, code);
    match answer {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(failure::of(&status, verdict.take(), target)),
        Err(_) => Err(failure::too_long(limit, target)),
    }
}

fn identify(metadata: &mut MetadataMap, id: &CallId, span: &Span) {
    let traceparent = traces::traceparent(span);
    span.record(ID, id.as_str());
    if let Some(trace) = traces::trace_id(span) {
        span.record(TRACE, trace);
    }
    for (key, text) in [(REQUEST_ID, Some(id.as_str())), (TRACEPARENT, traceparent.as_deref())] {
        if let Some(value) = text.and_then(|text| text.parse().ok()) {
            metadata.insert(key, value);
        }
    }
}

#[tonic::async_trait]
impl ControlPlane for GrpcControlPlane {
    async fn register(&self, registration: &Registration) -> ControlResult<Registered> {
        let message = convert::registration(registration);
        let register = async |mut client: Client, request| client.register(request).await;
        let answer = self.call(message, register).await?;
        self.proper(convert::registered(answer))
    }

    async fn heartbeat(&self, report: &HeartbeatReport) -> ControlResult<Beat> {
        let message = convert::heartbeat(report);
        let heartbeat = async |mut client: Client, request| client.heartbeat(request).await;
        let answer = self.call(message, heartbeat).await?;
        self.proper(convert::heard(answer))
    }

    async fn report(&self, instance: Uuid, events: &[VmEvent]) -> ControlResult<u64> {
        let events = events.iter().map(convert::event).collect();
        let message = ReportEventsRequest { instance: instance.to_string(), events };
        let report = async |mut client: Client, request| client.report_events(request).await;
        let answer = self.call(message, report).await?;
        self.proper(convert::sequence(answer.last_event))
    }
}
