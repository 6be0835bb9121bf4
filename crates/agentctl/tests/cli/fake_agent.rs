//! An agent with real state and no VMs: what is created can be listed, stopped, started and
//! deleted, and names such as `hang` make it misbehave.

mod debugging;
mod imaging;
mod operations;
mod watching;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ghost_proto::agentpb::agent_service_server::{AgentService, AgentServiceServer};
use ghost_proto::agentpb::operations_service_server::OperationsServiceServer;
use ghost_proto::agentpb::{
    CreateVmRequest, CreateVmResponse, DeleteVmRequest, DeleteVmResponse, GetHealthResponse,
    GetNodeInfoRequest, GetNodeInfoResponse, GetVmStatusRequest, GetVmStatusResponse,
    ListImagesRequest, ListImagesResponse, ListVMsRequest, ListVMsResponse, LogLevel,
    PullImageRequest, RemoveImageRequest, RemoveImageResponse, StartVmRequest, StartVmResponse,
    StopVmRequest, StopVmResponse, UpdateImagesRequest, VerifyImageRequest, VerifyImageResponse,
    VmInfo, WatchVMsRequest,
};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

pub(crate) use debugging::{Debugging, LastWord};
pub(crate) use ghost_proto::agentpb::ImageProgress;
pub(crate) use imaging::{Imaging, absent, digest, image, outcome, progress};
use operations::Operations;
pub(crate) use watching::{Ending, Watching, event, synced};

/// The address that every VM gets.
pub(crate) const ADDRESS: &str = "192.168.122.50";
/// What the agent gives at most on a page, whatever was asked.
const PAGE: usize = 2;

/// What the agent was asked and holds.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) vms: BTreeMap<String, VmInfo>,
    pub(crate) creates: Vec<CreateVmRequest>,
    pub(crate) stops: Vec<StopVmRequest>,
    pub(crate) pages: usize,
    /// `x-request-id` and `traceparent` of calls about a VM.
    pub(crate) ids: Vec<(String, String)>,
    pub(crate) status_asks: usize,
    /// How old its answers are, in seconds.
    pub(crate) age: Option<u64>,
    pub(crate) watching: Watching,
    /// Of which the agent knows nothing while libvirt is away.
    pub(crate) node_is_unknown: bool,
    pub(crate) node: GetNodeInfoResponse,
    /// What it says of itself; an older agent has no such service.
    pub(crate) health: Option<GetHealthResponse>,
    pub(crate) imaging: Imaging,
    pub(crate) debugging: Debugging,
    /// Of its log; an older agent has no such service.
    pub(crate) log_level: Option<LogLevel>,
}

/// A running agent; stops when dropped.
pub(crate) struct FakeAgent {
    runtime: Option<Runtime>,
    pub(crate) state: Arc<Mutex<State>>,
    folder: tempfile::TempDir,
}

impl FakeAgent {
    fn prepare() -> (Self, Service) {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let service = Service {
            state: Arc::default(),
            asked_while_creating: Semaphore::new(0),
            asked_while_fetching: Semaphore::new(0),
        };
        let state = Arc::clone(&service.state);
        let folder = tempfile::tempdir().unwrap();
        (Self { runtime: Some(runtime.unwrap()), state, folder }, service)
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Listens on a unix socket.
    pub(crate) fn on_socket() -> Self {
        let (agent, service) = Self::prepare();
        let listener =
            agent.runtime().block_on(async { UnixListener::bind(agent.socket()) }).unwrap();
        let state = Arc::clone(&agent.state);
        let incoming = UnixListenerStream::new(listener).map(move |stream| {
            let stream = stream?;
            state.lock().unwrap().watching.connected(&stream);
            Ok::<_, std::io::Error>(stream)
        });
        let operations = Operations(Arc::clone(&agent.state));
        agent.runtime().spawn(
            Server::builder()
                .add_service(OperationsServiceServer::new(operations))
                .add_service(AgentServiceServer::new(service))
                .serve_with_incoming(incoming),
        );
        agent
    }

    /// Listens on a loopback port, with `tls` on every connection; returns `127.0.0.1:PORT` too.
    pub(crate) fn on_tls(tls: rustls::ServerConfig) -> (Self, String) {
        let (agent, service) = Self::prepare();
        let listener = agent.runtime().block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let (accepted, incoming) = mpsc::channel(16);
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        agent.runtime().spawn(async move {
            loop {
                let (tcp, _) = listener.accept().await.unwrap();
                if let Ok(stream) = acceptor.accept(tcp).await {
                    accepted.send(Ok::<_, std::io::Error>(stream)).await.unwrap();
                }
            }
        });
        let operations = Operations(Arc::clone(&agent.state));
        agent.runtime().spawn(
            Server::builder()
                .add_service(OperationsServiceServer::new(operations))
                .add_service(AgentServiceServer::new(service))
                .serve_with_incoming(ReceiverStream::new(incoming)),
        );
        (agent, addr)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("agent.sock")
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Makes VMs that are there already, all running.
    pub(crate) fn with_vms(self, names: &[&str]) -> Self {
        for name in names {
            self.state.lock().unwrap().vms.insert((*name).to_owned(), vm(name, "running"));
        }
        self
    }

    pub(crate) fn status_of(&self, name: &str) -> Option<String> {
        self.state.lock().unwrap().vms.get(name).map(|vm| vm.status.clone())
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn vm(name: &str, status: &str) -> VmInfo {
    VmInfo {
        vm_id: format!("id-of-{name}"),
        name: name.to_owned(),
        status: status.to_owned(),
        ip_address: ADDRESS.to_owned(),
        reason: String::new(),
    }
}

fn detail(vm: VmInfo) -> GetVmStatusResponse {
    let moved = vm.name == "traffic";
    GetVmStatusResponse {
        vm_id: vm.vm_id,
        name: vm.name,
        status: vm.status,
        vcpu: 2,
        ram_gb: 4,
        disk_gb: 20,
        ip_address: vm.ip_address,
        uptime_seconds: 3725,
        cpu_usage_percent: 12.5,
        ram_usage_percent: 50.25,
        reason: vm.reason,
        disk_used_bytes: if moved { 3 << 29 } else { 0 },
        net_rx_bytes: if moved { 2048 } else { 0 },
        ..Default::default()
    }
}

struct Service {
    state: Arc<Mutex<State>>,
    /// One permit for each question about a VM that is being created.
    asked_while_creating: Semaphore,
    /// One permit for each question about images while one is being fetched.
    asked_while_fetching: Semaphore,
}

pub(crate) fn error(code: Code, reason: &str, message: &str) -> Status {
    let metadata = [("vm_name".to_owned(), "web-1".to_owned())];
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(reason, "agent.ghost", metadata),
    )
}

fn not_found(vm: &str) -> Status {
    error(Code::NotFound, "NOT_FOUND", &format!("there is no VM {vm}; agentctl vm list shows all"))
}

/// What a VM of this name makes of every call on it.
async fn misbehave(name: &str) -> Result<(), Status> {
    match name {
        "hang" => std::future::pending().await,
        "busy" => Err(error(Code::Aborted, "CONFLICT", "another operation is under way")),
        "wrong-state" => Err(error(Code::FailedPrecondition, "CONFLICT", "it is being deleted")),
        "full" => {
            Err(error(Code::ResourceExhausted, "RESOURCE_LIMIT_EXCEEDED", "asked 8 GiB, 5 left"))
        }
        "broken" => Err(error(Code::Internal, "INTERNAL_ERROR", "the agent is at fault")),
        "no-libvirt" => {
            let mut details = ErrorDetails::with_error_info("HYPERVISOR_ERROR", "agent.ghost", []);
            details.set_retry_info(Some(Duration::from_millis(4200)));
            Err(Status::with_error_details(Code::Unavailable, "libvirt is away", details))
        }
        "no-lease" => {
            let console = [("console".to_owned(), "Booting\nKernel \u{1b}[31mpanic".to_owned())];
            let details = ErrorDetails::with_error_info("NETWORK_ERROR", "agent.ghost", console);
            Err(Status::with_error_details(Code::DeadlineExceeded, "no address in 120 s", details))
        }
        "long-story" => {
            let console = [("console".to_owned(), "line of the console\n".repeat(2000))];
            let details = ErrorDetails::with_error_info("NETWORK_ERROR", "agent.ghost", console);
            Err(Status::with_error_details(Code::DeadlineExceeded, "no address in 120 s", details))
        }
        "foreign" => Err(Status::permission_denied("your certificate is not in allowed_clients")),
        _ => Ok(()),
    }
}

fn validate(request: &CreateVmRequest) -> Result<(), Status> {
    let mut details = ErrorDetails::with_error_info("VALIDATION_ERROR", "agent.ghost", []);
    if !(1..=32).contains(&request.vcpu) {
        details.add_bad_request_violation("vcpu", "must be 1 to 32");
    }
    if !(1..=128).contains(&request.ram_gb) {
        details.add_bad_request_violation("ram_gb", "must be 1 to 128");
    }
    if details.has_bad_request_violations() {
        return Err(Status::with_error_details(
            Code::InvalidArgument,
            "vcpu: …; ram_gb: …",
            details,
        ));
    }
    Ok(())
}

impl Service {
    fn identified<T>(&self, request: &Request<T>) {
        let header = |key: &str| {
            let value = request.metadata().get(key).map(|value| value.to_str().unwrap());
            value.unwrap_or_default().to_owned()
        };
        let ids = (header("x-request-id"), header("traceparent"));
        self.state.lock().unwrap().ids.push(ids);
    }

    fn aged<T>(&self, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if let Some(age) = self.state.lock().unwrap().age {
            response.metadata_mut().insert("x-ghost-age-seconds", age.into());
        }
        response
    }
}

#[tonic::async_trait]
impl AgentService for Service {
    async fn create_vm(
        &self,
        request: Request<CreateVmRequest>,
    ) -> Result<Response<CreateVmResponse>, Status> {
        self.identified(&request);
        let request = request.into_inner();
        let name = request.name.clone();
        self.state.lock().unwrap().creates.push(request.clone());
        misbehave(&name).await?;
        validate(&request)?;
        if self.state.lock().unwrap().vms.contains_key(&name) {
            return Err(error(Code::AlreadyExists, "CONFLICT", "the name is taken"));
        }
        if name == "fetching" {
            self.asked_while_fetching.acquire_many(2).await.unwrap().forget();
            self.state.lock().unwrap().imaging.images.clear();
        }
        if matches!(name.as_str(), "slow" | "fetching") {
            self.state.lock().unwrap().vms.insert(name.clone(), vm(&name, "creating"));
            // Who asks a second time has shown the first answer.
            self.asked_while_creating.acquire_many(2).await.unwrap().forget();
        }
        let kept = name == "kept-failed";
        let made = vm(&name, if kept { "error" } else { "running" });
        self.state.lock().unwrap().vms.insert(name, made.clone());
        Ok(Response::new(CreateVmResponse {
            vm_id: made.vm_id,
            ip_address: made.ip_address,
            status: made.status,
            error: if kept { "no address in 120 s".to_owned() } else { String::new() },
        }))
    }

    async fn delete_vm(
        &self,
        request: Request<DeleteVmRequest>,
    ) -> Result<Response<DeleteVmResponse>, Status> {
        self.identified(&request);
        let name = request.into_inner().vm_id;
        misbehave(&name).await?;
        let gone = self.state.lock().unwrap().vms.remove(&name);
        gone.ok_or_else(|| not_found(&name))?;
        Ok(Response::new(DeleteVmResponse { success: true, error: String::new() }))
    }

    async fn start_vm(
        &self,
        request: Request<StartVmRequest>,
    ) -> Result<Response<StartVmResponse>, Status> {
        self.identified(&request);
        let name = request.into_inner().vm_id;
        misbehave(&name).await?;
        let mut state = self.state.lock().unwrap();
        let vm = state.vms.get_mut(&name).ok_or_else(|| not_found(&name))?;
        vm.status = "running".to_owned();
        let error = if name == "no-address" { "no address yet" } else { "" }.to_owned();
        Ok(Response::new(StartVmResponse { status: vm.status.clone(), error }))
    }

    async fn stop_vm(
        &self,
        request: Request<StopVmRequest>,
    ) -> Result<Response<StopVmResponse>, Status> {
        let request = request.into_inner();
        misbehave(&request.vm_id).await?;
        let mut state = self.state.lock().unwrap();
        state.stops.push(request.clone());
        let vm = state.vms.get_mut(&request.vm_id).ok_or_else(|| not_found(&request.vm_id))?;
        vm.status = "stopped".to_owned();
        Ok(Response::new(StopVmResponse { status: vm.status.clone(), error: String::new() }))
    }

    async fn get_vm_status(
        &self,
        request: Request<GetVmStatusRequest>,
    ) -> Result<Response<GetVmStatusResponse>, Status> {
        self.identified(&request);
        self.state.lock().unwrap().status_asks += 1;
        let name = request.into_inner().vm_id;
        misbehave(&name).await?;
        let found = self.state.lock().unwrap().vms.get(&name).cloned();
        let vm = found.ok_or_else(|| not_found(&name))?;
        if vm.status == "creating" {
            self.asked_while_creating.add_permits(1);
        }
        Ok(self.aged(detail(vm)))
    }

    async fn get_node_info(
        &self,
        _: Request<GetNodeInfoRequest>,
    ) -> Result<Response<GetNodeInfoResponse>, Status> {
        if self.state.lock().unwrap().node_is_unknown {
            misbehave("no-libvirt").await?;
        }
        let node = self.state.lock().unwrap().node.clone();
        Ok(self.aged(node))
    }

    type WatchVMsStream = watching::Events;

    async fn watch_v_ms(
        &self,
        request: Request<WatchVMsRequest>,
    ) -> Result<Response<Self::WatchVMsStream>, Status> {
        let events = watching::watch(&mut self.state.lock().unwrap(), request.into_inner());
        Ok(self.aged(events))
    }

    async fn list_v_ms(
        &self,
        request: Request<ListVMsRequest>,
    ) -> Result<Response<ListVMsResponse>, Status> {
        self.identified(&request);
        let request = request.into_inner();
        let mut state = self.state.lock().unwrap();
        state.pages += 1;
        if state.vms.contains_key("endless") {
            let same = ListVMsResponse { vms: Vec::new(), next_page_token: "again".to_owned() };
            return Ok(Response::new(same));
        }
        let wanted = |vm: &&VmInfo| request.status.is_empty() || vm.status == request.status;
        let rest = state.vms.values().filter(wanted).filter(|vm| vm.name > request.page_token);
        let mut vms: Vec<VmInfo> = rest.take(PAGE + 1).cloned().collect();
        let more = vms.len() > PAGE;
        vms.truncate(PAGE);
        let last = vms.last().filter(|_| more).map(|vm| vm.name.clone());
        drop(state);
        Ok(self.aged(ListVMsResponse { vms, next_page_token: last.unwrap_or_default() }))
    }

    async fn list_images(
        &self,
        _: Request<ListImagesRequest>,
    ) -> Result<Response<ListImagesResponse>, Status> {
        let listed = imaging::list(&mut self.state.lock().unwrap())?;
        if listed.images.iter().any(|image| image.progress.is_some()) {
            self.asked_while_fetching.add_permits(1);
        }
        Ok(Response::new(listed))
    }

    type PullImageStream = imaging::Told;

    async fn pull_image(
        &self,
        request: Request<PullImageRequest>,
    ) -> Result<Response<Self::PullImageStream>, Status> {
        let template = request.into_inner().template;
        misbehave(&template).await?;
        let mut state = self.state.lock().unwrap();
        state.imaging.pulled.push(template);
        Ok(Response::new(imaging::stream(&mut state)))
    }

    type UpdateImagesStream = imaging::Told;

    async fn update_images(
        &self,
        request: Request<UpdateImagesRequest>,
    ) -> Result<Response<Self::UpdateImagesStream>, Status> {
        let mut state = self.state.lock().unwrap();
        state.imaging.updated.push(request.into_inner().templates);
        Ok(Response::new(imaging::stream(&mut state)))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Result<Response<RemoveImageResponse>, Status> {
        let image = request.into_inner().image;
        misbehave(&image).await?;
        imaging::remove(&mut self.state.lock().unwrap(), image).map(Response::new)
    }

    async fn verify_image(
        &self,
        request: Request<VerifyImageRequest>,
    ) -> Result<Response<VerifyImageResponse>, Status> {
        let image = request.into_inner().image;
        misbehave(&image).await?;
        imaging::verify(&mut self.state.lock().unwrap(), image).map(Response::new)
    }
}
