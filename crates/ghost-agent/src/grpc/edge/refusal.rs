//! What is said where no handler was reached. Invariant: every refusal names cause and remedy, and carries the id of its call.

use std::collections::HashMap;
use std::error::Error as _;

use hyper::HeaderMap;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::rpc;
use crate::grpc::status::DOMAIN;
use crate::observability::metrics::code_name;

/// The error code of what is wrong with a message (docs/api.md).
const VALIDATION: &str = "VALIDATION_ERROR";

/// Whether the connection failed, and not the message: tonic's own judgements have no cause, those of HTTP/2 have.
pub(super) fn is_of_the_transport(status: &Status) -> bool {
    status.source().is_some()
}

/// With its right code, and words that help.
pub(super) fn of(status: &Status, path: &str) -> Status {
    match status.code() {
        // Between the access rule and our handlers there is nothing but tonic's reading of the message: it calls all
        // that it can not read INTERNAL (protobuf's or gRPC's framing alike), and so would blame us.
        Code::Internal if rpc::is_ours(path) => with_details(
            Code::InvalidArgument,
            format!(
                "{path}: the message can not be read ({}); encode it as the agent's proto files say",
                status.message()
            ),
            status,
        ),
        Code::OutOfRange => with_details(
            Code::OutOfRange,
            format!("{}; send a smaller message", status.message()),
            status,
        ),
        Code::Unimplemented if status.message().is_empty() => with_details(
            Code::Unimplemented,
            format!(
                "the agent has no call {path}; see what it has: docs/api.md, or upgrade it if it is older than its client"
            ),
            status,
        ),
        _ => status.clone(),
    }
}

fn with_details(code: Code, message: String, of: &Status) -> Status {
    Status::with_error_details(code, message, of.get_error_details())
}

/// With an `ErrorInfo` that names the call; gives its reason too.
pub(super) fn complete(status: &Status, id: &str, trace_id: Option<&str>) -> (Status, String) {
    let mut details: ErrorDetails = status.get_error_details();
    let (reason, domain, mut metadata) = match details.error_info() {
        Some(info) => (info.reason.clone(), info.domain.clone(), info.metadata.clone()),
        None => (reason(status.code()).to_owned(), DOMAIN.to_owned(), HashMap::new()),
    };
    metadata.insert("request_id".to_owned(), id.to_owned());
    if let Some(trace_id) = trace_id {
        metadata.insert("trace_id".to_owned(), trace_id.to_owned());
    }
    details.set_error_info(&*reason, domain, metadata);
    (Status::with_error_details(status.code(), status.message(), details), reason)
}

const fn reason(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => VALIDATION,
        _ => code_name(code),
    }
}

/// In the place of what these headers say.
pub(super) fn put(status: &Status, headers: &mut HeaderMap) {
    for key in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        headers.remove(key);
    }
    if status.add_header(headers).is_err() {
        // Its metadata is empty, and its message is percent-encoded: it is always taken.
        headers.insert("grpc-status", i32::from(status.code()).into());
    }
}
