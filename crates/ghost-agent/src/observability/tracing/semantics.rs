//! What our spans are called at a collector: OpenTelemetry's conventions for RPCs, version 1.37. Pure.

use opentelemetry::trace::{SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::SpanData;

/// The methods of `agentpb.OperationsService`; all others are `agentpb.AgentService`'s.
const OPERATIONS: [&str; 4] = ["GetHealth", "GetLogLevel", "SetLogLevel", "CollectDebug"];

/// The span under its name, kind and attributes of the conventions.
pub(super) fn translate(mut span: SpanData) -> SpanData {
    // It is the span's own.
    span.attributes.retain(|one| one.key.as_str() != "trace_id");
    match span.name.as_ref() {
        "call" => {
            let method = take(&mut span, "rpc");
            let operations = OPERATIONS.contains(&method.as_str());
            let service =
                if operations { "agentpb.OperationsService" } else { "agentpb.AgentService" };
            rpc(&mut span, SpanKind::Server, service, method);
        }
        "control plane" => {
            let method = take(&mut span, "rpc");
            rpc(&mut span, SpanKind::Client, "ghost.controlplane.v1.ControlPlane", method);
        }
        "libvirt" => {
            span.name = format!("libvirt {}", value(&span, "call")).into();
            span.span_kind = SpanKind::Client;
        }
        "step" => span.name = format!("create {}", value(&span, "step")).into(),
        _ => {}
    }
    let code = value(&span, "error_code");
    if span.status == Status::Unset && !code.is_empty() {
        span.status = Status::error(code);
    }
    span
}

fn rpc(span: &mut SpanData, kind: SpanKind, service: &'static str, method: String) {
    span.name = format!("{service}/{method}").into();
    span.span_kind = kind;
    span.attributes.extend([
        KeyValue::new("rpc.system", "grpc"),
        KeyValue::new("rpc.service", service),
        KeyValue::new("rpc.method", method),
    ]);
}

fn value(span: &SpanData, key: &str) -> String {
    let found = span.attributes.iter().find(|one| one.key.as_str() == key);
    match found.map(|one| &one.value) {
        Some(Value::String(text)) => text.to_string(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn take(span: &mut SpanData, key: &str) -> String {
    let value = value(span, key);
    span.attributes.retain(|one| one.key.as_str() != key);
    value
}
