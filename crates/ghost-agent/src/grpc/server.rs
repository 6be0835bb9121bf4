//! The server on the doors: our API, `grpc.health.v1`, and reflection for this host only.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use ghost_proto::agentpb::agent_service_server::AgentServiceServer;
use ghost_proto::agentpb::operations_service_server::OperationsServiceServer;
use ghost_proto::{AGENT_DESCRIPTOR, OPERATIONS_DESCRIPTOR};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::InterceptorLayer;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::access::{Access, on_this_host_only};
use super::edge::Edge;
use super::listen::Connection;
use super::operations::OperationsApi;
use super::service::AgentApi;
use crate::health::HealthView;

/// Largest message that is read: user data and metadata at their limits are a seventh of it.
const MESSAGE_BYTES: usize = 1 << 20;
/// Most calls under way on one connection: with [`MESSAGE_BYTES`], 64 MiB at the worst.
const CALLS_PER_CONNECTION: u32 = 64;
/// How often a silent connection is asked whether it lives, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Why the server ended.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The reflection service can't read our own descriptor.
    #[error("the wire contract's descriptor is damaged: this is a bug of the build")]
    Descriptor(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the gRPC server failed")]
    Transport(#[source] tonic::transport::Error),
}

/// Serves until `closing`, then until the calls under way have been answered.
///
/// # Errors
/// See [`ServerError`].
pub async fn serve(
    api: AgentApi,
    operations: OperationsApi,
    access: Access,
    connections: ReceiverStream<io::Result<Connection>>,
    view: HealthView,
    closing: CancellationToken,
) -> Result<(), ServerError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    report(&health, &view, &closing).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(AGENT_DESCRIPTOR)
        .register_encoded_file_descriptor_set(OPERATIONS_DESCRIPTOR)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(ServerError::Descriptor)?;
    let edge = Edge::new(Arc::clone(&api.metrics));
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .max_concurrent_streams(CALLS_PER_CONNECTION)
        .layer(edge)
        .layer(InterceptorLayer::new(access))
        .add_service(AgentServiceServer::new(api).max_decoding_message_size(MESSAGE_BYTES))
        .add_service(
            OperationsServiceServer::new(operations).max_decoding_message_size(MESSAGE_BYTES),
        )
        .add_service(health_service)
        .add_service(InterceptedService::new(reflection, on_this_host_only))
        .serve_with_incoming_shutdown(connections, closing.clone().cancelled_owned());
    tokio::select! {
        served = serving => served.map_err(ServerError::Transport),
        never = follow(health, view, closing) => match never {},
    }
}

/// Keeps what `grpc.health.v1` says as `/readyz` is.
async fn follow(
    reporter: HealthReporter,
    mut view: HealthView,
    closing: CancellationToken,
) -> Infallible {
    while closing.run_until_cancelled(view.changed()).await.is_some_and(|known| known.is_ok()) {
        report(&reporter, &view, &closing).await;
    }
    closing.cancelled().await;
    report(&reporter, &view, &closing).await;
    std::future::pending().await
}

async fn report(reporter: &HealthReporter, view: &HealthView, closing: &CancellationToken) {
    let status = match view.borrow().ready && !closing.is_cancelled() {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    };
    for service in ["", AgentServiceServer::<AgentApi>::NAME] {
        reporter.set_service_status(service, status).await;
    }
}
