//! Commands agents. Invariant: only who proves to be that agent is told anything: its certificate is of
//! our authority and has its DNS name; every command has a deadline, and an id and perhaps a trace, which the agent learns.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use ghost_core::domain::{Origin, TraceParent};
use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use ghost_proto::agentpb::{CreateVmRequest, CreateVmResponse, DeleteVmRequest};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Request, Response, Status};
use tower::service_fn;

use crate::grpc::call::{REQUEST_ID, TRACEPARENT};
use crate::grpc::status::chain;
use crate::plane::Target;

/// An agent that does not accept a connection within this time is unreachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// The agent waits two minutes for the VM's address; its image may have to come first.
pub const CREATE_LIMIT: Duration = Duration::from_secs(150);
/// A guest has 30 s to power off.
pub const DELETE_LIMIT: Duration = Duration::from_secs(60);
/// What the agent's own answer may be late.
const GRACE: Duration = Duration::from_secs(5);
/// A create waits for minutes without traffic: pings show when the agent's host is gone.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// An error carries the guest's last console lines in its trailers; hyper's default is 16 KiB.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// Why a command did not work out.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// Nobody is there, or not that agent, or the connection broke.
    #[error(
        "agent {name} at {address} cannot be reached: {why}; look at its host, the VPN, and its grpc.listen_addr and certificates"
    )]
    Unreachable {
        /// Its name.
        name: String,
        /// Where it should be.
        address: String,
        /// What was seen.
        why: String,
    },
    /// It did not answer in time.
    #[error("agent {name} did not answer in {} s; it may be at work still: repeat with the same --request-id", .limit.as_secs())]
    TimedOut {
        /// Its name.
        name: String,
        /// How long it had.
        limit: Duration,
    },
    /// It said no, in its own words.
    #[error("agent {name}: {}", .status.message())]
    Refused {
        /// Its name.
        name: String,
        /// What it said.
        status: Box<Status>,
    },
}

/// Commands agents in the control plane's name.
#[derive(Debug, Clone)]
pub struct Commander {
    tls: Arc<rustls::ClientConfig>,
}

impl Commander {
    /// With the control plane's own certificate.
    #[must_use]
    pub const fn new(tls: Arc<rustls::ClientConfig>) -> Self {
        Self { tls }
    }

    /// Creates a VM there, as the command `origin`. The same request id in `ask` makes no second one.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_vm(
        &self,
        target: &Target,
        ask: CreateVmRequest,
        origin: &Origin,
    ) -> Result<CreateVmResponse, CommandError> {
        let call =
            |mut client: AgentServiceClient<_>, ask| async move { client.create_vm(ask).await };
        self.call(target, CREATE_LIMIT, origin, ask, call).await
    }

    /// Removes a VM from there, as the command `origin`.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn delete_vm(
        &self,
        target: &Target,
        vm_id: String,
        origin: &Origin,
    ) -> Result<(), CommandError> {
        let call =
            |mut client: AgentServiceClient<_>, ask| async move { client.delete_vm(ask).await };
        let ask = DeleteVmRequest { vm_id };
        self.call(target, DELETE_LIMIT, origin, ask, call).await.map(drop)
    }

    async fn call<M, A, F: Future<Output = Result<Response<A>, Status>>>(
        &self,
        target: &Target,
        limit: Duration,
        origin: &Origin,
        message: M,
        rpc: impl FnOnce(AgentServiceClient<Channel>, Request<M>) -> F,
    ) -> Result<A, CommandError> {
        let unreachable = |why| CommandError::Unreachable {
            name: target.name.clone(),
            address: target.address.clone(),
            why,
        };
        let channel = match timeout(CONNECT_LIMIT, self.dial(target)).await {
            Ok(dialled) => dialled.map_err(|error| unreachable(chain(&*error)))?,
            Err(_) => {
                return Err(unreachable(format!("no answer in {} s", CONNECT_LIMIT.as_secs())));
            }
        };
        let mut request = Request::new(message);
        request.set_timeout(limit);
        let id = Some(origin.request_id.as_str());
        let traceparent = origin.traceparent.as_ref().map(TraceParent::as_str);
        for (key, text) in [(REQUEST_ID, id), (TRACEPARENT, traceparent)] {
            if let Some(value) = text.and_then(|text| text.parse().ok()) {
                request.metadata_mut().insert(key, value);
            }
        }
        let timed_out = || CommandError::TimedOut { name: target.name.clone(), limit };
        match timeout(limit + GRACE, rpc(AgentServiceClient::new(channel), request)).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) if is_deadline(&status) => Err(timed_out()),
            Ok(Err(status)) if is_broken_connection(&status) => Err(unreachable(chain(&status))),
            Ok(Err(status)) => {
                Err(CommandError::Refused { name: target.name.clone(), status: Box::new(status) })
            }
            Err(_) => Err(timed_out()),
        }
    }

    async fn dial(
        &self,
        target: &Target,
    ) -> Result<Channel, Box<dyn std::error::Error + Send + Sync>> {
        let tcp = TcpStream::connect(&target.address).await?;
        tcp.set_nodelay(true)?;
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        let tls = connector.connect(ServerName::try_from(target.id.dns())?, tcp).await?;
        Ok(speak_http2(tls).await?)
    }
}

async fn speak_http2(stream: TlsStream<TcpStream>) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the agent hung up")) }
    });
    // The authority names no host: who the agent is was proven below HTTP.
    Endpoint::from_static("http://agent.ghost")
        .http2_keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .connect_with_connector(once)
        .await
}

/// tonic reports its own deadline as a cancellation; the agent's own deadlines carry details.
fn is_deadline(status: &Status) -> bool {
    let code = status.code();
    status.details().is_empty()
        && (code == Code::DeadlineExceeded
            || (code == Code::Cancelled && status.message() == "Timeout expired"))
}

/// Whether our own client made this status up.
fn is_broken_connection(status: &Status) -> bool {
    status.details().is_empty() && std::error::Error::source(status).is_some()
}
