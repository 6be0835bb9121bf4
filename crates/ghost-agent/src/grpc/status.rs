//! Errors on the wire: gRPC status + `google.rpc.ErrorInfo` (reason = the error's code, domain
//! `agent.ghost`), and `BadRequest` or `RetryInfo` where they apply. The only place where an
//! [`ErrorKind`] becomes a gRPC code.

use std::collections::HashMap;
use std::time::Duration;

use ghost_core::domain::{AppError, ErrorKind};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "agent.ghost";

/// Longest value of an error's metadata, in bytes: it travels in an HTTP/2 trailer, of which
/// clients commonly take 8 KiB for all.
const VALUE_BYTES: usize = 2048;

/// How soon a client should try again what failed because something is away, unless the error
/// itself knows better.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// The fact of an error that says when a retry makes sense, in milliseconds.
const RETRY_FACT: &str = "retry_after_ms";

/// The answer to a call that failed, which is found in the log by `request_id`, and at a collector of traces by `trace_id`.
#[must_use]
pub fn of_call(error: &AppError, request_id: &str, trace_id: Option<&str>) -> Status {
    let code = code(error.kind());
    // What went wrong inside is for the log; the caller gets the id to find it there.
    let message = match error.kind() {
        ErrorKind::Internal => {
            format!("the agent failed; its log says why under request_id {request_id}")
        }
        _ => error.to_string(),
    };
    let mut metadata: HashMap<String, String> = match error.kind() {
        ErrorKind::Internal => HashMap::new(),
        _ => error.context().iter().map(|(k, v)| ((*k).to_owned(), shortened(v))).collect(),
    };
    metadata.insert("request_id".to_owned(), request_id.to_owned());
    if let Some(trace_id) = trace_id {
        metadata.insert("trace_id".to_owned(), trace_id.to_owned());
    }
    let mut details = ErrorDetails::with_error_info(error.code().as_str(), DOMAIN, metadata);
    if !error.violations().is_empty() {
        let violation = |v: &ghost_core::domain::FieldViolation| {
            FieldViolation::new(v.field.as_ref(), v.problem.as_str())
        };
        details.set_bad_request(error.violations().iter().map(violation).collect::<Vec<_>>());
    }
    if code == Code::Unavailable || error.kind() == ErrorKind::TooManyCalls {
        details.set_retry_info(Some(retry_after(error)));
    }
    Status::with_error_details(code, message, details)
}

fn retry_after(error: &AppError) -> Duration {
    let fact = error.context().iter().find(|(key, _)| *key == RETRY_FACT);
    let known = fact.and_then(|(_, value)| value.parse().ok()).map(Duration::from_millis);
    known.unwrap_or(RETRY_AFTER)
}

const fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::Validation => Code::InvalidArgument,
        ErrorKind::ResourceLimit | ErrorKind::TooManyCalls => Code::ResourceExhausted,
        ErrorKind::NotFound => Code::NotFound,
        ErrorKind::NameTaken => Code::AlreadyExists,
        ErrorKind::WrongState => Code::FailedPrecondition,
        ErrorKind::Busy => Code::Aborted,
        ErrorKind::HypervisorUnavailable
        | ErrorKind::NetworkUnavailable
        | ErrorKind::ShuttingDown => Code::Unavailable,
        ErrorKind::AddressTimeout => Code::DeadlineExceeded,
        ErrorKind::HypervisorFailed | ErrorKind::Internal => Code::Internal,
    }
}

/// The end of a long value: of a console, the last lines tell most.
fn shortened(value: &str) -> String {
    let mut start = value.len().saturating_sub(VALUE_BYTES);
    while !value.is_char_boundary(start) {
        start += 1;
    }
    value[start..].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_on_the_wire_has_reason_domain_and_facts() {
        let error = AppError::new(ErrorKind::NameTaken, "the name is taken").with("vm_id", 7);
        let status = of_call(&error, "r-1", None);
        assert_eq!((status.code(), status.message()), (Code::AlreadyExists, "the name is taken"));
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("CONFLICT", DOMAIN));
        assert_eq!(
            (info.metadata["vm_id"].as_str(), info.metadata["request_id"].as_str()),
            ("7", "r-1")
        );
    }

    #[test]
    fn an_internal_error_tells_the_caller_nothing_but_where_to_look() {
        let error = AppError::new(ErrorKind::Internal, "secret path /x").with("path", "/x");
        let status = of_call(&error, "r-1", None);
        assert!(!format!("{status:?}").contains("/x"));
        assert!(status.message().contains("r-1"));
    }

    #[test]
    fn what_may_pass_by_itself_carries_a_retry_delay() {
        let error = AppError::new(ErrorKind::HypervisorUnavailable, "libvirt is away");
        let status = of_call(&error, "r-1", None);
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(RETRY_AFTER));
        let resting = of_call(&error.with(RETRY_FACT, 4500), "r-1", None);
        let delay = resting.get_details_retry_info().unwrap().retry_delay;
        assert_eq!(delay, Some(Duration::from_millis(4500)));
    }

    #[test]
    fn a_long_console_keeps_its_end_within_the_limit() {
        let error = AppError::new(ErrorKind::AddressTimeout, "no address")
            .with("console", format!("{}the end", "ä".repeat(4000)));
        let status = of_call(&error, "r-1", None);
        let info = status.get_details_error_info().unwrap();
        assert!(info.metadata["console"].len() <= VALUE_BYTES);
        assert!(info.metadata["console"].ends_with("the end"));
    }
}
