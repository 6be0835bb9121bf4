//! Invariant: one run uses one connection, made here, either to a unix socket that the operating
//! system guards or over TLS 1.3 with both sides proven; there is no third way.

mod follow;
mod identified;
pub(crate) mod look;
mod stream;
mod target;
mod tls;

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghost_proto::agentpb::agent_service_client::AgentServiceClient;
use ghost_proto::agentpb::operations_service_client::OperationsServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Response, Status};
use tower::service_fn;

use crate::cli::{Connection, Global};
use crate::errors::{Exit, Failure, from_status, from_tls};
use crate::output;
pub(crate) use follow::Following;
use identified::Identified;
pub(crate) use stream::TlsVerdict;
use stream::{Stream, Watched};
pub(crate) use target::Target;

/// An agent that does not accept a connection within this time is unreachable.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);
/// A create waits for minutes without traffic: pings show when the agent's host is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEPALIVE_LIMIT: Duration = Duration::from_secs(10);
/// An error carries the guest's last console lines in its trailers; hyper's default is 16 KiB.
const MAX_HEADER_BYTES: u32 = 256 * 1024;

/// A connected agent.
#[derive(Debug, Clone)]
pub(crate) struct Agent {
    client: AgentServiceClient<Channel>,
    operations: OperationsServiceClient<Channel>,
    target: Arc<Target>,
    verdict: TlsVerdict,
    timeout: Option<Duration>,
    identified: Arc<Identified>,
}

/// Connects as the command line says.
///
/// # Errors
/// Exit 2 for options that contradict each other, a wrong `GHOST_REQUEST_ID` or unreadable certificates, 7 when nobody answers, 9 when
/// the socket may not be opened or a certificate is refused.
pub(crate) async fn connect(global: &Global) -> Result<Agent, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    let identified = Identified::choose(global.request_id.as_deref(), environment)?;
    let target = Target::choose(&global.connection, environment)?;
    let limit = global.timeout.unwrap_or(CONNECT_LIMIT).min(CONNECT_LIMIT);
    let verdict: TlsVerdict = Arc::new(Mutex::new(None));
    let stream = match timeout(limit, dial(&target, &global.connection, &verdict)).await {
        Ok(stream) => stream?,
        Err(_) => return Err(target.silent(limit)),
    };
    let channel = speak_http2(stream).await.map_err(|error| {
        from_tls::verdict(&verdict, &target)
            .unwrap_or_else(|| from_status::broken_connection(&error, &target))
    })?;
    let operations = OperationsServiceClient::new(channel.clone());
    let client = AgentServiceClient::new(channel);
    let (target, identified) = (Arc::new(target), Arc::new(identified));
    let timeout = global.timeout;
    Ok(Agent { client, operations, target, verdict, timeout, identified })
}

async fn dial(
    target: &Target,
    options: &Connection,
    verdict: &TlsVerdict,
) -> Result<Stream, Failure> {
    match target {
        Target::Socket(path) => {
            let stream = UnixStream::connect(path).await.map_err(|error| target.refused(&error))?;
            Ok(Stream::Unix(stream))
        }
        Target::Remote(remote) => {
            let config = tls::client_config(options)?;
            let tcp = TcpStream::connect((remote.host.as_str(), remote.port))
                .await
                .map_err(|error| target.refused(&error))?;
            // Requests are small and each is waited for: a delay would only add to the round trip.
            let _ = tcp.set_nodelay(true);
            let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
            let tls = connector
                .connect(remote.name.clone(), tcp)
                .await
                .map_err(|error| from_tls::handshake(&error, target))?;
            Ok(Stream::Tls(Box::new(Watched::new(tls, Arc::clone(verdict)))))
        }
    }
}

async fn speak_http2(stream: Stream) -> Result<Channel, tonic::transport::Error> {
    let mut stream = Some(TokioIo::new(stream));
    let once = service_fn(move |_: Uri| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("the agent hung up")) }
    });
    // The authority names no host: who the agent is was proven below HTTP.
    Endpoint::from_static("http://agent.ghost")
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_LIMIT)
        .keep_alive_while_idle(true)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .connect_with_connector(once)
        .await
}

impl Agent {
    /// The agent as messages name it, such as `ghost-agent at /run/ghost/agent.sock`.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Sends `message` by `rpc`; the agent learns the deadline, `--timeout` or else `default`.
    ///
    /// # Errors
    /// What the agent answered, or 7 when the connection broke, or 8 when the time is over.
    pub(crate) async fn call<M, A, F>(
        &self,
        message: M,
        default: Duration,
        rpc: impl FnOnce(AgentServiceClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.asked(message, default, |request| rpc(self.client.clone(), request)).await
    }

    /// As [`Self::call`], of what an operator asks the agent about itself.
    ///
    /// # Errors
    /// See [`Self::call`].
    pub(crate) async fn operate<M, A, F>(
        &self,
        message: M,
        default: Duration,
        rpc: impl FnOnce(OperationsServiceClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        self.asked(message, default, |request| rpc(self.operations.clone(), request)).await
    }

    async fn asked<M, A, F>(
        &self,
        message: M,
        default: Duration,
        rpc: impl FnOnce(tonic::Request<M>) -> F,
    ) -> Result<A, Failure>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let limit = self.timeout.unwrap_or(default);
        let mut request = self.request(message);
        request.set_timeout(limit);
        match timeout(limit, rpc(request)).await {
            Ok(Ok(response)) => {
                note_age(age(response.metadata()));
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.failure(&status, limit)),
            Err(_) => Err(self.named(from_status::timed_out(limit))),
        }
    }

    /// `message` under the id of the command that is run.
    pub(crate) fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        self.identified.mark(request.metadata_mut());
        request
    }

    /// The id of the VM that the command makes.
    pub(crate) fn create_id(&self) -> &str {
        &self.identified.create_id
    }

    fn named(&self, failure: Failure) -> Failure {
        failure.of_request(&self.identified.request_id)
    }

    fn failure(&self, status: &Status, limit: Duration) -> Failure {
        let refused = if from_status::is_from_agent(status) {
            None
        } else {
            from_tls::verdict(&self.verdict, &self.target)
        };
        self.named(refused.unwrap_or_else(|| from_status::failure(status, limit, &self.target)))
    }
}

/// How old the agent says its answer is, in seconds.
fn age(metadata: &tonic::metadata::MetadataMap) -> Option<u64> {
    metadata.get("x-ghost-age-seconds").and_then(|age| age.to_str().ok()?.parse().ok())
}

/// Says so when the agent can only tell what it knew `age` seconds ago.
pub(crate) fn note_age(age: Option<u64>) {
    if let Some(age) = age {
        output::remark(&aged(age));
    }
}

/// What an answer that is `age` seconds old is told with.
pub(crate) fn aged(age: u64) -> String {
    format!("as of {} ago: libvirt does not answer the agent", output::duration(age))
}

/// The failure of a connection attempt, if any, in words for `target`; see [`Target::refused`].
pub(crate) fn unavailable(message: String, remedy: &str) -> Failure {
    Failure::new(Exit::Unavailable, message).remedy(remedy)
}
