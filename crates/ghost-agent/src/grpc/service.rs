//! `agentpb.AgentService`: convert, run the use case, convert back.

use std::sync::Arc;
use std::time::Duration;

use ghost_core::application::{
    CreateVm, DeleteVm, ListVms, Registry, StartVm, StopVm, VmStatusQuery,
};
use ghost_core::domain::{BootMoment, Catalog, VmSpec};
use ghost_core::ports::Clock;
use ghost_proto::agentpb::agent_service_server::AgentService;
use ghost_proto::agentpb::{
    CreateVmRequest, CreateVmResponse, DeleteVmRequest, DeleteVmResponse, GetVmStatusRequest,
    GetVmStatusResponse, ListVMsRequest, ListVMsResponse, StartVmRequest, StartVmResponse,
    StopVmRequest, StopVmResponse,
};
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::call::Call;
use super::convert;

type Reply<T> = Result<Response<T>, Status>;

/// The use cases behind the API.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each field is documented by its type; `boot` is the host's, now")]
pub struct AgentApi {
    pub create: Arc<CreateVm>,
    pub delete: Arc<DeleteVm>,
    pub start: Arc<StartVm>,
    pub stop: Arc<StopVm>,
    pub status: Arc<VmStatusQuery>,
    pub list: Arc<ListVms>,
    pub catalog: Arc<Catalog>,
    pub cache: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    pub boot: Uuid,
    pub tasks: TaskTracker,
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    async fn create_vm(&self, request: Request<CreateVmRequest>) -> Reply<CreateVmResponse> {
        let (call, message) = Call::open("CreateVM", request);
        let (create, catalog) = (Arc::clone(&self.create), Arc::clone(&self.catalog));
        let work = async move {
            let spec = VmSpec::parse(convert::vm_request(message), &catalog)?;
            create.run(spec).await.map(convert::created)
        };
        call.change(&self.tasks, work).await
    }

    async fn delete_vm(&self, request: Request<DeleteVmRequest>) -> Reply<DeleteVmResponse> {
        let (call, message) = Call::open("DeleteVM", request);
        let delete = Arc::clone(&self.delete);
        let work = async move {
            delete.run(&convert::vm_ref(&message.vm_id)?).await?;
            Ok(DeleteVmResponse { success: true, error: String::new() })
        };
        call.change(&self.tasks, work).await
    }

    async fn start_vm(&self, request: Request<StartVmRequest>) -> Reply<StartVmResponse> {
        let (call, message) = Call::open("StartVM", request);
        let start = Arc::clone(&self.start);
        let work = async move {
            let started = start.run(&convert::vm_ref(&message.vm_id)?).await?;
            Ok(convert::started(started.note))
        };
        call.change(&self.tasks, work).await
    }

    async fn stop_vm(&self, request: Request<StopVmRequest>) -> Reply<StopVmResponse> {
        let (call, message) = Call::open("StopVM", request);
        let stop = Arc::clone(&self.stop);
        let work = async move {
            let mode = convert::stop_mode(message.force);
            let stopped = stop.run(&convert::vm_ref(&message.vm_id)?, mode).await?;
            Ok(convert::stopped(stopped.note))
        };
        call.change(&self.tasks, work).await
    }

    async fn get_vm_status(
        &self,
        request: Request<GetVmStatusRequest>,
    ) -> Reply<GetVmStatusResponse> {
        let (call, message) = Call::open("GetVMStatus", request);
        call.read(self.age(), || {
            let vm = self.status.run(&convert::vm_ref(&message.vm_id)?)?;
            let now = BootMoment { boot: self.boot, elapsed: self.clock.since_boot() };
            Ok(convert::vm_status(&vm, now))
        })
    }

    async fn list_v_ms(&self, request: Request<ListVMsRequest>) -> Reply<ListVMsResponse> {
        let (call, message) = Call::open("ListVMs", request);
        call.read(self.age(), || {
            Ok(convert::page(self.list.run(&convert::page_request(&message)?)))
        })
    }
}

impl AgentApi {
    fn age(&self) -> Option<Duration> {
        self.cache.age(self.clock.monotonic())
    }
}
