//! A collector of traces over OTLP (gRPC), for tests and measurements. Invariant: what it hands on was really decoded, and
//! nothing that is shipped knows it (`cargo xtask layers`).

use std::fmt;
use std::io;
use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// Listens at `address`, port 0 for any free one, and hands on to `take` what comes, an export at a time; until the
/// runtime ends. Gives where it listens.
///
/// # Errors
/// If it can't listen there.
pub async fn collect(
    address: SocketAddr,
    take: impl Fn(Vec<ResourceSpans>) + Send + Sync + 'static,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let service = TraceServiceServer::new(Collector(take));
    let serving =
        Server::builder().add_service(service).serve_with_incoming(TcpIncoming::from(listener));
    TaskTracker::new().spawn(serving);
    Ok(address)
}

struct Collector<F>(F);

impl<F> fmt::Debug for Collector<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Collector")
    }
}

#[tonic::async_trait]
impl<F: Fn(Vec<ResourceSpans>) + Send + Sync + 'static> TraceService for Collector<F> {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        (self.0)(request.into_inner().resource_spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
