//! From the spans of `tracing` to those of OpenTelemetry, and the traces that calls bring along and take on.

use ghost_core::domain::TraceParent;
use opentelemetry::trace::{
    SpanContext, SpanId, Status, TraceContextExt as _, TraceFlags, TraceId, TraceState,
    TracerProvider as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tonic::Code;
use tracing::{Span, Subscriber};
use tracing_opentelemetry::OpenTelemetrySpanExt as _;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;

use super::export::{Exporting, queue};
use crate::config;

/// Whose spans are exported: libraries' are not.
const OURS: [&str; 4] = ["ghost_agent", "ghost_core", "ghost_host", "ghost_libvirt"];

/// What takes in spans, and what exports them; `None` if the configuration names no collector. To be made once, before the
/// runtime is needed; [`Exporting::start`] needs one.
#[must_use]
pub fn layer<S>(tracing: &config::Tracing) -> Option<(impl Layer<S> + Send + Sync, Exporting)>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let endpoint = tracing.otlp_endpoint.clone()?;
    let (queue, exporting) = queue(endpoint);
    let root = Sampler::TraceIdRatioBased(tracing.sample_ratio);
    let provider = SdkTracerProvider::builder()
        .with_sampler(Sampler::ParentBased(Box::new(root)))
        .with_resource(Resource::builder_empty().build())
        .with_span_processor(queue)
        .build();
    let layer = tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("ghost-agent"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_level(false)
        .with_tracked_inactivity(false)
        // Nothing below us asks OpenTelemetry for its own idea of where it is.
        .with_context_activation(false);
    let ours = Targets::new().with_targets(OURS.map(|target| (target, LevelFilter::INFO)));
    Some((layer.with_filter(ours), exporting))
}

/// Makes `span`, which is new, a part of its caller's trace.
pub(crate) fn continue_from(span: &Span, parent: &TraceParent) {
    let ids =
        TraceId::from_hex(parent.trace_id()).ok().zip(SpanId::from_hex(parent.span_id()).ok());
    let flags = parent.as_str().get(53..).and_then(|flags| u8::from_str_radix(flags, 16).ok());
    if let (Some((trace, id)), Some(flags)) = (ids, flags) {
        let remote =
            SpanContext::new(trace, id, TraceFlags::new(flags), true, TraceState::default());
        let parent = opentelemetry::Context::new().with_remote_span_context(remote);
        // Fails while nothing is traced.
        let _ = span.set_parent(parent);
    }
}

/// The id of the trace that `span` is part of; `None` while nothing is traced.
pub(crate) fn trace_id(span: &Span) -> Option<String> {
    context(span).map(|context| context.trace_id().to_string())
}

/// What a call that is made within `span` takes along; `None` while nothing is traced.
pub(crate) fn traceparent(span: &Span) -> Option<String> {
    context(span).map(|context| {
        let flags = context.trace_flags().to_u8();
        format!("00-{}-{}-{flags:02x}", context.trace_id(), context.span_id())
    })
}

fn context(span: &Span) -> Option<SpanContext> {
    let context = span.context();
    let context = context.span().span_context().clone();
    context.is_valid().then_some(context)
}

/// How the call that `span` is of ended.
pub(crate) fn ended(span: &Span, code: Code) {
    span.set_attribute("rpc.grpc.status_code", i64::from(i32::from(code)));
    match code {
        // A caller's own mistakes are no errors of the server's (OpenTelemetry, gRPC's conventions).
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => {}
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => span.set_status(Status::error(code.description())),
    }
}
