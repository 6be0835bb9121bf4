//! `agentpb.OperationsService`: what an operator asks the agent about itself.

mod debug;
mod health;
mod log_level;

use std::sync::Arc;

use futures_util::stream::{self, BoxStream, StreamExt as _, TryStreamExt as _};
use ghost_proto::agentpb::operations_service_server::OperationsService;
use ghost_proto::agentpb::{
    CollectDebugRequest, DebugFile, GetHealthRequest, GetHealthResponse, GetLogLevelRequest,
    LogLevel, SetLogLevelRequest,
};
use tonic::{Request, Response, Status};

use super::call::Call;
use super::quotas::Quotas;
use crate::debug::{Collection, Collector};
use crate::health::HealthView;
use crate::observability::logging::LogHandle;
use crate::observability::metrics::Limited;

type Reply<T> = Result<Response<T>, Status>;

/// What is behind the service.
#[derive(Debug, Clone)]
pub struct OperationsApi {
    /// How often may be called.
    pub quotas: Arc<Quotas>,
    /// How the agent is.
    pub health: HealthView,
    /// What belongs into a bug report.
    pub debug: Arc<Collector>,
    /// The log.
    pub log: LogHandle,
}

#[tonic::async_trait]
impl OperationsService for OperationsApi {
    type CollectDebugStream = BoxStream<'static, Result<DebugFile, Status>>;

    async fn get_health(&self, request: Request<GetHealthRequest>) -> Reply<GetHealthResponse> {
        let (call, _) = Call::open("GetHealth", request);
        call.read(&self.quotas, None, || Ok(health::told(&self.health.borrow())))
    }

    async fn get_log_level(&self, request: Request<GetLogLevelRequest>) -> Reply<LogLevel> {
        let (call, _) = Call::open("GetLogLevel", request);
        call.read(&self.quotas, None, || Ok(log_level::told(&self.log)))
    }

    async fn set_log_level(&self, request: Request<SetLogLevelRequest>) -> Reply<LogLevel> {
        let (call, message) = Call::open("SetLogLevel", request);
        let work = async { log_level::set(&self.log, &message) };
        call.ask(&self.quotas, Limited::Change, work).await
    }

    async fn collect_debug(
        &self,
        request: Request<CollectDebugRequest>,
    ) -> Reply<Self::CollectDebugStream> {
        let (call, message) = Call::open("CollectDebug", request);
        // Begun only when it is read, so that a call that is refused for its number takes nobody's turn.
        let collector = Arc::clone(&self.debug);
        let told = stream::once(async move { debug::collect(&collector, &message) });
        let told = told.map_ok(Collection::told).try_flatten().boxed();
        call.tell(&self.quotas, Limited::Change, || Ok(told))
    }
}
