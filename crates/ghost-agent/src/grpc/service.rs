//! `agentpb.AgentService`: convert, run the use case, convert back.

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, BoxStream, StreamExt as _};
use ghost_core::application::{
    CreateVm, DeleteVm, ImageLibrary, ListVms, NodeQuery, Registry, StartVm, StopVm, VmStatusQuery,
    WatchVms,
};
use ghost_core::domain::{BootMoment, Catalog, VmSpec};
use ghost_core::ports::Clock;
use ghost_proto::agentpb::agent_service_server::AgentService;
use ghost_proto::agentpb::{
    CreateVmRequest, CreateVmResponse, DeleteVmRequest, DeleteVmResponse, GetNodeInfoRequest,
    GetNodeInfoResponse, GetVmStatusRequest, GetVmStatusResponse, ImageProgress, ListImagesRequest,
    ListImagesResponse, ListVMsRequest, ListVMsResponse, PullImageRequest, RemoveImageRequest,
    RemoveImageResponse, StartVmRequest, StartVmResponse, StopVmRequest, StopVmResponse,
    UpdateImagesRequest, VerifyImageRequest, VerifyImageResponse, VmEvent, WatchVMsRequest,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::call::{Call, aged};
use super::convert;
use super::images;
use super::quotas::Quotas;
use crate::observability::metrics::{Limited, Metrics};

type Reply<T> = Result<Response<T>, Status>;

/// The use cases behind the API.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "each other field is documented by its type")]
pub struct AgentApi {
    pub create: Arc<CreateVm>,
    pub delete: Arc<DeleteVm>,
    pub start: Arc<StartVm>,
    pub stop: Arc<StopVm>,
    pub status: Arc<VmStatusQuery>,
    pub list: Arc<ListVms>,
    pub catalog: Arc<Catalog>,
    pub node: Arc<NodeQuery>,
    pub watch: Arc<WatchVms>,
    pub images: Arc<ImageLibrary>,
    pub cache: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    pub about: Arc<About>,
    /// Ends the streams.
    pub closing: CancellationToken,
    pub tasks: TaskTracker,
    pub quotas: Arc<Quotas>,
    pub metrics: Arc<Metrics>,
}

/// What does not change while the agent runs.
#[derive(Debug, Clone)]
pub struct About {
    /// The agent's id.
    pub agent_id: Uuid,
    /// Its name in the configuration.
    pub name: String,
    /// `kvm` or `tcg`.
    pub acceleration: &'static str,
    /// The boot of the host.
    pub boot: Uuid,
}

#[tonic::async_trait]
impl AgentService for AgentApi {
    type WatchVMsStream = BoxStream<'static, Result<VmEvent, Status>>;
    type PullImageStream = BoxStream<'static, Result<ImageProgress, Status>>;
    type UpdateImagesStream = BoxStream<'static, Result<ImageProgress, Status>>;

    async fn create_vm(&self, request: Request<CreateVmRequest>) -> Reply<CreateVmResponse> {
        let (call, message) = Call::open("CreateVM", request);
        let (create, catalog) = (Arc::clone(&self.create), Arc::clone(&self.catalog));
        let origin = call.origin();
        let work = async move {
            let spec = VmSpec::parse(convert::vm_request(message), &catalog)?;
            create.run(spec, &origin).await.map(convert::created)
        };
        call.change(&self.quotas, &self.tasks, work).await
    }

    async fn delete_vm(&self, request: Request<DeleteVmRequest>) -> Reply<DeleteVmResponse> {
        let (call, message) = Call::open("DeleteVM", request);
        let (delete, origin) = (Arc::clone(&self.delete), call.origin());
        let work = async move {
            delete.run(&convert::vm_ref(&message.vm_id)?, &origin).await?;
            Ok(DeleteVmResponse { success: true, error: String::new() })
        };
        call.change(&self.quotas, &self.tasks, work).await
    }

    async fn start_vm(&self, request: Request<StartVmRequest>) -> Reply<StartVmResponse> {
        let (call, message) = Call::open("StartVM", request);
        let (start, origin) = (Arc::clone(&self.start), call.origin());
        let work = async move {
            let started = start.run(&convert::vm_ref(&message.vm_id)?, &origin).await?;
            Ok(convert::started(started.note))
        };
        call.change(&self.quotas, &self.tasks, work).await
    }

    async fn stop_vm(&self, request: Request<StopVmRequest>) -> Reply<StopVmResponse> {
        let (call, message) = Call::open("StopVM", request);
        let (stop, origin) = (Arc::clone(&self.stop), call.origin());
        let work = async move {
            let mode = convert::stop_mode(message.force);
            let stopped = stop.run(&convert::vm_ref(&message.vm_id)?, mode, &origin).await?;
            Ok(convert::stopped(stopped.note))
        };
        call.change(&self.quotas, &self.tasks, work).await
    }

    async fn get_vm_status(
        &self,
        request: Request<GetVmStatusRequest>,
    ) -> Reply<GetVmStatusResponse> {
        let (call, message) = Call::open("GetVMStatus", request);
        call.read(&self.quotas, self.age(), || {
            let vm = self.status.run(&convert::vm_ref(&message.vm_id)?)?;
            Ok(convert::vm_status(&vm, self.now()))
        })
    }

    async fn list_v_ms(&self, request: Request<ListVMsRequest>) -> Reply<ListVMsResponse> {
        let (call, message) = Call::open("ListVMs", request);
        call.read(&self.quotas, self.age(), || {
            Ok(convert::page(self.list.run(&convert::page_request(&message)?)))
        })
    }

    async fn get_node_info(
        &self,
        request: Request<GetNodeInfoRequest>,
    ) -> Reply<GetNodeInfoResponse> {
        let (call, _) = Call::open("GetNodeInfo", request);
        call.read(&self.quotas, self.age(), || Ok(convert::node(&self.node.run()?, &self.about)))
    }

    async fn watch_v_ms(&self, request: Request<WatchVMsRequest>) -> Reply<Self::WatchVMsStream> {
        let (call, message) = Call::open("WatchVMs", request);
        let api = self.clone();
        let age = self.age();
        let told = call.tell(&self.quotas, Limited::Read, || {
            let watching = self.watch.run(&message.resume_token)?;
            let events = stream::unfold((watching, api), |(mut watching, api)| async move {
                let (token, event) = watching.next().await?;
                Some((Ok(convert::event(token, &event, api.now())), (watching, api)))
            });
            let closing = self.closing.clone();
            Ok(events.take_until(closing.cancelled_owned()).boxed())
        });
        told.map(|response| aged(response, age))
    }

    async fn list_images(&self, request: Request<ListImagesRequest>) -> Reply<ListImagesResponse> {
        let (call, _) = Call::open("ListImages", request);
        call.ask(&self.quotas, Limited::Read, images::list(&self.images)).await
    }

    async fn pull_image(&self, request: Request<PullImageRequest>) -> Reply<Self::PullImageStream> {
        let (call, message) = Call::open("PullImage", request);
        let told = images::pull(Arc::clone(&self.images), message.template, self.closing.clone());
        call.tell(&self.quotas, Limited::Change, || Ok(told))
    }

    async fn update_images(
        &self,
        request: Request<UpdateImagesRequest>,
    ) -> Reply<Self::UpdateImagesStream> {
        let (call, message) = Call::open("UpdateImages", request);
        let told =
            images::update(Arc::clone(&self.images), message.templates, self.closing.clone());
        call.tell(&self.quotas, Limited::Change, || Ok(told))
    }

    async fn remove_image(
        &self,
        request: Request<RemoveImageRequest>,
    ) -> Reply<RemoveImageResponse> {
        let (call, message) = Call::open("RemoveImage", request);
        let library = Arc::clone(&self.images);
        let work = async move { images::remove(&library, &message.image).await };
        call.change(&self.quotas, &self.tasks, work).await
    }

    async fn verify_image(
        &self,
        request: Request<VerifyImageRequest>,
    ) -> Reply<VerifyImageResponse> {
        let (call, message) = Call::open("VerifyImage", request);
        let work = images::verify(&self.images, &message.image);
        call.ask(&self.quotas, Limited::Change, work).await
    }
}

impl AgentApi {
    fn now(&self) -> BootMoment {
        BootMoment { boot: self.about.boot, elapsed: self.clock.since_boot() }
    }

    fn age(&self) -> Option<Duration> {
        self.cache.age(self.clock.monotonic())
    }
}

#[cfg(test)]
pub(crate) mod tests;
