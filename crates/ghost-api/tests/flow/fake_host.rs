//! An agent's host: serves `AgentService` with the agent's own certificate, and lets only the control plane in.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use ghost_proto::agentpb::agent_service_server::{AgentService, AgentServiceServer};
use ghost_proto::agentpb::{
    CreateVmRequest, CreateVmResponse, DeleteVmRequest, DeleteVmResponse, GetNodeInfoRequest,
    GetNodeInfoResponse, GetVmStatusRequest, GetVmStatusResponse, ImageProgress, ListImagesRequest,
    ListImagesResponse, ListVMsRequest, ListVMsResponse, PullImageRequest, RemoveImageRequest,
    RemoveImageResponse, StartVmRequest, StartVmResponse, StopVmRequest, StopVmResponse,
    UpdateImagesRequest, VerifyImageRequest, VerifyImageResponse, VmEvent, WatchVMsRequest,
};
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::agent::Issued;

/// What it was told, and by whom.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) creates: Vec<CreateVmRequest>,
    pub(crate) deletes: Vec<String>,
    pub(crate) callers: Vec<String>,
    /// `x-request-id` of creates and deletes.
    pub(crate) ids: Vec<String>,
    /// `traceparent` of creates and deletes that have one.
    pub(crate) traces: Vec<String>,
}

/// Where the create of a VM called "slow" waits.
#[derive(Debug)]
pub(crate) struct Gate {
    pub(crate) reached: Semaphore,
    pub(crate) open: Semaphore,
}

/// A running host.
#[derive(Debug)]
pub(crate) struct FakeHost {
    pub(crate) address: SocketAddr,
    pub(crate) told: Arc<Mutex<Told>>,
    pub(crate) gate: Arc<Gate>,
}

impl FakeHost {
    pub(crate) async fn start(issued: &Issued) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told: Arc<Mutex<Told>> = Arc::default();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls(issued)));
        let (accepted, incoming) = tokio::sync::mpsc::channel(16);
        let tasks = tokio_util::task::TaskTracker::new();
        let seen = Arc::clone(&told);
        tasks.spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                let caller = uri(&stream.get_ref().1.peer_certificates().unwrap()[0]);
                seen.lock().unwrap().callers.push(caller);
                if accepted.send(Ok::<_, std::io::Error>(stream)).await.is_err() {
                    return;
                }
            }
        });
        let gate = Arc::new(Gate { reached: Semaphore::new(0), open: Semaphore::new(0) });
        let service = AgentServiceServer::new(Service(Arc::clone(&told), Arc::clone(&gate)));
        tasks.spawn(
            Server::builder()
                .add_service(service)
                .serve_with_incoming(ReceiverStream::new(incoming)),
        );
        Self { address, told, gate }
    }
}

fn tls(issued: &Issued) -> rustls::ServerConfig {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(issued.ca.clone())).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let (chain, key) = issued.identity();
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain, key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn uri(certificate: &CertificateDer<'_>) -> String {
    let (_, parsed) = X509Certificate::from_der(certificate).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    names.value.general_names[0].to_string()
}

struct Service(Arc<Mutex<Told>>, Arc<Gate>);

type Reply<T> = Result<Response<T>, Status>;

fn not_asked<T>() -> Reply<T> {
    Err(Status::unimplemented("no test asks for it"))
}

impl Service {
    fn identified<T>(&self, ask: &Request<T>) {
        let id = ask.metadata().get("x-request-id").unwrap().to_str().unwrap();
        let trace = ask.metadata().get("traceparent").map(|trace| trace.to_str().unwrap());
        let mut told = self.0.lock().unwrap();
        told.ids.push(id.to_owned());
        told.traces.extend(trace.map(str::to_owned));
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    type WatchVMsStream = ReceiverStream<Result<VmEvent, Status>>;
    type PullImageStream = ReceiverStream<Result<ImageProgress, Status>>;
    type UpdateImagesStream = ReceiverStream<Result<ImageProgress, Status>>;

    async fn create_vm(&self, ask: Request<CreateVmRequest>) -> Reply<CreateVmResponse> {
        self.identified(&ask);
        let ask = ask.into_inner();
        if ask.name == "taken" {
            let details = ErrorDetails::with_error_info("CONFLICT", "agent.ghost", HashMap::new());
            let text = "the name 'taken' is taken \u{1b}[2J";
            return Err(Status::with_error_details(Code::AlreadyExists, text, details));
        }
        if ask.name == "slow" {
            self.1.reached.add_permits(1);
            drop(self.1.open.acquire().await.unwrap());
        }
        self.0.lock().unwrap().creates.push(ask);
        Ok(Response::new(CreateVmResponse {
            vm_id: "6d0a3f4e-6a43-4d5e-9f58-0d2d2b3f2c11".to_owned(),
            ip_address: "192.168.122.50".to_owned(),
            status: "running".to_owned(),
            error: String::new(),
        }))
    }

    async fn delete_vm(&self, ask: Request<DeleteVmRequest>) -> Reply<DeleteVmResponse> {
        self.identified(&ask);
        self.0.lock().unwrap().deletes.push(ask.into_inner().vm_id);
        Ok(Response::new(DeleteVmResponse { success: true, error: String::new() }))
    }

    async fn start_vm(&self, _: Request<StartVmRequest>) -> Reply<StartVmResponse> {
        not_asked()
    }

    async fn stop_vm(&self, _: Request<StopVmRequest>) -> Reply<StopVmResponse> {
        not_asked()
    }

    async fn get_vm_status(&self, _: Request<GetVmStatusRequest>) -> Reply<GetVmStatusResponse> {
        not_asked()
    }

    async fn list_v_ms(&self, _: Request<ListVMsRequest>) -> Reply<ListVMsResponse> {
        not_asked()
    }

    async fn get_node_info(&self, _: Request<GetNodeInfoRequest>) -> Reply<GetNodeInfoResponse> {
        not_asked()
    }

    async fn watch_v_ms(&self, _: Request<WatchVMsRequest>) -> Reply<Self::WatchVMsStream> {
        not_asked()
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Reply<ListImagesResponse> {
        not_asked()
    }

    async fn pull_image(&self, _: Request<PullImageRequest>) -> Reply<Self::PullImageStream> {
        not_asked()
    }

    async fn update_images(
        &self,
        _: Request<UpdateImagesRequest>,
    ) -> Reply<Self::UpdateImagesStream> {
        not_asked()
    }

    async fn remove_image(&self, _: Request<RemoveImageRequest>) -> Reply<RemoveImageResponse> {
        not_asked()
    }

    async fn verify_image(&self, _: Request<VerifyImageRequest>) -> Reply<VerifyImageResponse> {
        not_asked()
    }
}
