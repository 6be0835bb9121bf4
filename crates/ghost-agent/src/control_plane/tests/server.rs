//! A control plane's server that can be made to misbehave.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use ghost_core::domain::ApiReach;
use ghost_proto::controlplane as wire;
use ghost_proto::controlplane::control_plane_server::{ControlPlane, ControlPlaneServer};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use url::Url;

use super::authority::{AGENT, Authority, NOW, SECRET, Years, agent_names, host};
use crate::control_plane::target::Target;

#[derive(Debug, Clone)]
pub(crate) enum Conduct {
    Well,
    Never,
    Slow(Duration),
    Huge,
    Says(Code, &'static str),
    /// After the handshake.
    Garbage,
    /// After the handshake.
    HangsUp,
    /// Issues certificates without the DNS name.
    LeavesOut,
    /// Issues certificates of another authority.
    Swaps,
}

#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) registered: Vec<wire::RegisterRequest>,
    pub(crate) heartbeats: Vec<wire::HeartbeatRequest>,
    pub(crate) events: Vec<wire::VmEvent>,
    /// The client's certificate, of each call.
    pub(crate) certificates: Vec<Option<Vec<u8>>>,
    pub(crate) enrolled: usize,
    /// `x-request-id` and `traceparent` of each call.
    pub(crate) ids: Vec<(String, String)>,
}

#[derive(Clone)]
pub(crate) struct Fake {
    pub(crate) authority: Arc<Authority>,
    pub(crate) conduct: Arc<Mutex<Conduct>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    port: u16,
    _tasks: Arc<TaskTracker>,
}

impl Fake {
    pub(crate) async fn new() -> Self {
        Self::with(Authority::new(), "127.0.0.1", NOW).await
    }

    pub(crate) async fn with(authority: Arc<Authority>, name: &str, years: Years) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let conduct = Arc::new(Mutex::new(Conduct::Well));
        let tasks = Arc::new(TaskTracker::new());
        let fake = Self {
            authority: authority.clone(),
            conduct,
            seen: Arc::default(),
            port,
            _tasks: tasks.clone(),
        };
        let acceptor = TlsAcceptor::from(server_config(&authority, name, years));
        let (sender, receiver) = mpsc::channel(8);
        tasks.spawn(accept(listener, acceptor, fake.conduct.clone(), sender, tasks.clone()));
        let incoming =
            tokio_stream::wrappers::ReceiverStream::new(receiver).map(Ok::<_, std::io::Error>);
        let service = ControlPlaneServer::new(fake.clone());
        tasks.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        fake
    }

    pub(crate) fn url(&self) -> Url {
        format!("https://127.0.0.1:{}", self.port).parse().unwrap()
    }

    pub(crate) fn target(&self) -> Target {
        Target::of(&self.url(), ApiReach::VpnOnly).unwrap()
    }

    pub(crate) fn conducts(&self, conduct: Conduct) {
        *self.conduct.lock().unwrap() = conduct;
    }

    async fn met<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let certificate =
            request.peer_certs().and_then(|chain| chain.first().map(|leaf| leaf.as_ref().to_vec()));
        let header = |key: &str| {
            let value = request.metadata().get(key).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let ids = (header("x-request-id"), header("traceparent"));
        {
            let mut seen = self.seen.lock().unwrap();
            seen.certificates.push(certificate);
            seen.ids.push(ids);
        }
        let conduct = self.conduct.lock().unwrap().clone();
        match conduct {
            Conduct::Never => std::future::pending().await,
            Conduct::Slow(time) => tokio::time::sleep(time).await,
            Conduct::Says(code, reason) => {
                let details = ErrorDetails::with_error_info(reason, "controlplane.ghost", []);
                return Err(Status::with_error_details(code, "a\nreason", details));
            }
            Conduct::Well
            | Conduct::Huge
            | Conduct::Garbage
            | Conduct::HangsUp
            | Conduct::LeavesOut
            | Conduct::Swaps => {}
        }
        Ok(())
    }

    fn issue(&self, csr: &[u8]) -> Vec<Vec<u8>> {
        let mut names = agent_names(AGENT);
        let leaf = match &*self.conduct.lock().unwrap() {
            Conduct::LeavesOut => self.authority.certifies(csr, names.drain(..1).collect()),
            Conduct::Swaps => Authority::new().certifies(csr, names),
            _ => self.authority.certifies(csr, names),
        };
        vec![leaf.to_vec()]
    }
}

fn server_config(authority: &Authority, name: &str, years: Years) -> Arc<rustls::ServerConfig> {
    let (cert, key) = authority.signs(host(name), years);
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone())
        .allow_unauthenticated()
        .build()
        .unwrap();
    // The authority is shown too: whoever enrols knows no more of it than its sum.
    let chain: Vec<CertificateDer<'static>> = vec![cert, authority.der()];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    conduct: Arc<Mutex<Conduct>>,
    sender: mpsc::Sender<tokio_rustls::server::TlsStream<tokio::net::TcpStream>>,
    tasks: Arc<TaskTracker>,
) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, sender) = (acceptor.clone(), sender.clone());
        let conduct = conduct.lock().unwrap().clone();
        tasks.spawn(async move {
            let Ok(mut tls) = acceptor.accept(tcp).await else { return };
            match conduct {
                Conduct::Garbage => drop(tls.write_all(b"HTTP/1.1 200 OK\r\n\r\n<html>").await),
                Conduct::HangsUp => {}
                _ => drop(sender.send(tls).await),
            }
        });
    }
}

#[tonic::async_trait]
impl ControlPlane for Fake {
    async fn enroll(
        &self,
        request: Request<wire::EnrollRequest>,
    ) -> Result<Response<wire::EnrollResponse>, Status> {
        self.met(&request).await?;
        let request = request.into_inner();
        assert_eq!((request.secret.as_str(), request.agent_id), (SECRET, AGENT.to_string()));
        self.seen.lock().unwrap().enrolled += 1;
        let ca = self.authority.der().to_vec();
        Ok(Response::new(wire::EnrollResponse { chain: self.issue(&request.csr), ca }))
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        self.met(&request).await?;
        let ca = self.authority.der().to_vec();
        Ok(Response::new(wire::RenewResponse { chain: self.issue(&request.into_inner().csr), ca }))
    }

    async fn register(
        &self,
        request: Request<wire::RegisterRequest>,
    ) -> Result<Response<wire::RegisterResponse>, Status> {
        self.met(&request).await?;
        self.seen.lock().unwrap().registered.push(request.into_inner());
        let superseded = match *self.conduct.lock().unwrap() {
            Conduct::Huge => "x".repeat(10 << 20),
            _ => String::new(),
        };
        let interval_seconds = 1;
        Ok(Response::new(wire::RegisterResponse {
            server_time: None,
            interval_seconds,
            last_event: self.last(),
            superseded,
        }))
    }

    async fn heartbeat(
        &self,
        request: Request<wire::HeartbeatRequest>,
    ) -> Result<Response<wire::HeartbeatResponse>, Status> {
        self.met(&request).await?;
        self.seen.lock().unwrap().heartbeats.push(request.into_inner());
        let last_event = self.last();
        Ok(Response::new(wire::HeartbeatResponse {
            server_time: None,
            interval_seconds: 1,
            last_event,
        }))
    }

    async fn report_events(
        &self,
        request: Request<wire::ReportEventsRequest>,
    ) -> Result<Response<wire::ReportEventsResponse>, Status> {
        self.met(&request).await?;
        self.seen.lock().unwrap().events.extend(request.into_inner().events);
        Ok(Response::new(wire::ReportEventsResponse { last_event: self.last() }))
    }
}

impl Fake {
    fn last(&self) -> u64 {
        self.seen.lock().unwrap().events.last().map_or(0, |event| event.sequence)
    }
}
