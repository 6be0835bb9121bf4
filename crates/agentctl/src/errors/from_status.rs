//! Invariant: the agent's words are passed on, not replaced: a status with `google.rpc.ErrorInfo`
//! is the agent's own; anything else is the connection's, and is told as that.

use std::error::Error as _;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{Exit, Failure, Violation};
use crate::connect::Target;
use crate::output;

const AGENT_LOG: &str = "look at journalctl -u ghost-agent on its host";

/// Was this status written by the agent, and not made up by our own client?
pub(crate) fn is_from_agent(status: &Status) -> bool {
    status.get_details_error_info().is_some()
}

/// The failure that `status` reports; `limit` is the deadline that the call had.
pub(crate) fn failure(status: &Status, limit: Duration, target: &Target) -> Failure {
    let details = status.get_error_details();
    let Some(info) = details.error_info() else {
        return without_details(status, limit, target);
    };
    let mut failure = Failure::new(exit(status.code()), status.message());
    failure.code = info.reason.clone();
    failure.details.metadata = info.metadata.clone().into_iter().collect();
    failure.details.retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
    failure.details.violations = details.bad_request().map_or_else(Vec::new, |bad| {
        let own = |v: &tonic_types::FieldViolation| Violation {
            field: v.field.clone(),
            description: v.description.clone(),
        };
        bad.field_violations.iter().map(own).collect()
    });
    failure
}

fn without_details(status: &Status, limit: Duration, target: &Target) -> Failure {
    if is_timeout(status) {
        return timed_out(limit);
    }
    if let Some(source) = status.source() {
        return broken_connection(source, target);
    }
    let message = format!("{target} answered {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unimplemented => Failure::local(message)
            .remedy("agent and agentctl are of different versions: upgrade the older"),
        Code::Unauthenticated | Code::PermissionDenied => Failure::new(Exit::NotPermitted, message)
            .remedy("the agent's grpc.allowed_clients must list a name of your certificate"),
        code => Failure::new(exit(code), message).remedy(AGENT_LOG),
    }
}

/// tonic reports its own deadline as a cancellation, on either side of the wire.
fn is_timeout(status: &Status) -> bool {
    status.code() == Code::DeadlineExceeded
        || (status.code() == Code::Cancelled && status.message() == "Timeout expired")
}

/// The call had `limit` and it is over.
pub(crate) fn timed_out(limit: Duration) -> Failure {
    Failure::new(Exit::TimedOut, format!("no answer in {}", output::duration(limit.as_secs())))
        .remedy(
            "give it longer with --timeout, or look at vm status and image list: the agent finishes what it began",
        )
}

/// The connection was there and went away, or never spoke HTTP/2.
pub(crate) fn broken_connection(error: &dyn std::error::Error, target: &Target) -> Failure {
    let mut words = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push(error.to_string());
        cause = error.source();
    }
    words.dedup();
    let message = format!("the connection to {target} broke: {}", words.join(": "));
    Failure::new(Exit::Unavailable, message).remedy(match target {
        Target::Socket(_) => format!("did ghost-agent stop? {AGENT_LOG}"),
        Target::Remote(_) => format!(
            "did ghost-agent stop, or does its grpc.allowed_clients not list your certificate? {AGENT_LOG}"
        ),
    })
}

fn exit(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Done,
        Code::NotFound => Exit::NotFound,
        Code::InvalidArgument | Code::OutOfRange => Exit::Invalid,
        Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => Exit::Conflict,
        Code::ResourceExhausted => Exit::Exhausted,
        Code::Unavailable => Exit::Unavailable,
        Code::DeadlineExceeded => Exit::TimedOut,
        Code::PermissionDenied | Code::Unauthenticated => Exit::NotPermitted,
        Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            Exit::Failed
        }
    }
}
