//! A collector that keeps what it is sent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use tokio::sync::Notify;

/// A span as it came.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) name: String,
    pub(super) trace: String,
    pub(super) id: String,
    pub(super) parent: String,
    pub(super) kind: &'static str,
    pub(super) error: Option<String>,
    attributes: Vec<(String, String)>,
}

impl Span {
    pub(super) fn attribute(&self, key: &str) -> &str {
        let found = self.attributes.iter().find(|(k, _)| k == key);
        found.map_or("", |(_, value)| value)
    }
}

#[derive(Debug, Default)]
struct Kept {
    spans: Vec<Span>,
    resource: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(super) struct Collector {
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
    came: Arc<Notify>,
}

impl Collector {
    pub(super) async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    pub(super) async fn start_at(address: SocketAddr) -> Self {
        let (kept, came) = (Arc::<Mutex<Kept>>::default(), Arc::<Notify>::default());
        let (keeps, tells) = (Arc::clone(&kept), Arc::clone(&came));
        let take = move |all| {
            tells.notify_one();
            keeps.lock().unwrap().take(all);
        };
        let address = ghost_otlp::collect(address, take).await.unwrap();
        Self { address, kept, came }
    }

    /// Returns once spans came.
    pub(super) async fn takes(&self) {
        self.came.notified().await;
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        self.kept.lock().unwrap().spans.clone()
    }

    pub(super) fn taken(&self) -> Vec<Span> {
        std::mem::take(&mut self.kept.lock().unwrap().spans)
    }

    pub(super) fn resource(&self) -> Vec<(String, String)> {
        self.kept.lock().unwrap().resource.clone()
    }
}

impl Kept {
    fn take(&mut self, all: Vec<ResourceSpans>) {
        for of_resource in all {
            self.resource = pairs(of_resource.resource.unwrap().attributes);
            let spans = of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            self.spans.extend(spans.map(|span| {
                let kind = match span.kind() {
                    SpanKind::Server => "server",
                    SpanKind::Client => "client",
                    _ => "internal",
                };
                let status = span.status.unwrap_or_default();
                let failed = status.code == i32::from(StatusCode::Error);
                Span {
                    kind,
                    error: failed.then_some(status.message),
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    attributes: pairs(span.attributes),
                }
            }));
        }
    }
}

fn pairs(from: Vec<KeyValue>) -> Vec<(String, String)> {
    from.into_iter().map(|one| (one.key, text(one.value))).collect()
}

fn text(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
