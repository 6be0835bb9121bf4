//! What the agent says of itself.

use std::sync::{Arc, Mutex};

use ghost_proto::agentpb::operations_service_server::OperationsService;
use ghost_proto::agentpb::{
    CollectDebugRequest, GetHealthRequest, GetHealthResponse, GetLogLevelRequest, LogLevel,
    SetLogLevelRequest,
};
use tonic::{Request, Response, Status};

use super::{State, debugging};

/// As an older agent, it knows nothing but what the state has.
pub(super) struct Operations(pub(super) Arc<Mutex<State>>);

#[tonic::async_trait]
impl OperationsService for Operations {
    type CollectDebugStream = debugging::Told;

    async fn get_health(
        &self,
        _: Request<GetHealthRequest>,
    ) -> Result<Response<GetHealthResponse>, Status> {
        let health = self.0.lock().unwrap().health.clone();
        health.map(Response::new).ok_or_else(|| Status::unimplemented(""))
    }

    async fn get_log_level(
        &self,
        _: Request<GetLogLevelRequest>,
    ) -> Result<Response<LogLevel>, Status> {
        let level = self.0.lock().unwrap().log_level.clone();
        level.map(Response::new).ok_or_else(|| Status::unimplemented(""))
    }

    async fn set_log_level(
        &self,
        request: Request<SetLogLevelRequest>,
    ) -> Result<Response<LogLevel>, Status> {
        let SetLogLevelRequest { level, for_seconds } = request.into_inner();
        let mut state = self.0.lock().unwrap();
        let now = state.log_level.as_mut().ok_or_else(|| Status::unimplemented(""))?;
        now.level = if level.is_empty() { now.configured.clone() } else { level };
        now.until = if for_seconds == 0 { String::new() } else { format!("+{for_seconds} s") };
        Ok(Response::new(now.clone()))
    }

    async fn collect_debug(
        &self,
        request: Request<CollectDebugRequest>,
    ) -> Result<Response<Self::CollectDebugStream>, Status> {
        let lines = request.into_inner().log_lines;
        Ok(Response::new(debugging::tell(&mut self.0.lock().unwrap(), lines)))
    }
}
