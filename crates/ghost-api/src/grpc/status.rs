//! Refusals on the wire: gRPC status + `google.rpc.ErrorInfo`, domain `controlplane.ghost`; `RetryInfo`
//! where waiting helps. The only place where a [`Refusal`] becomes a gRPC code.

use std::collections::HashMap;
use std::error::Error;

use ghost_core::domain::Origin;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::commander::CommandError;
use crate::counters::Counters;
use crate::domain::text::cut;
use crate::domain::token::KeyRefusal;
use crate::refusal::Refusal;

/// The domain of every `ErrorInfo`.
pub const DOMAIN: &str = "controlplane.ghost";
/// Longest message of an agent that is passed on.
const MESSAGE_BYTES: usize = 2048;
/// Most details of an agent that are passed on: its console's last lines have 2 KiB.
const DETAIL_BYTES: usize = 32 * 1024;

/// The answer to the call `origin` that was refused; counted.
pub(super) fn refused(refusal: &Refusal, origin: &Origin, counters: &Counters) -> Status {
    let (code, reason) = code(refusal);
    counters.refused(reason);
    if let Refusal::Command(CommandError::Refused { status, .. }) = refusal {
        // The agent's own words, with its details, under its name.
        let fits = status.details().len() <= DETAIL_BYTES;
        let details = if fits { status.details().to_vec() } else { Vec::new() };
        return Status::with_details(
            code,
            cut(&refusal.to_string(), MESSAGE_BYTES),
            details.into(),
        );
    }
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, facts(origin));
    if let Refusal::TooOften(wait) = refusal {
        details.set_retry_info(Some(*wait));
    }
    Status::with_error_details(code, refusal.to_string(), details)
}

/// By which the call is found in the log.
fn facts(origin: &Origin) -> HashMap<String, String> {
    let trace = origin.traceparent.as_ref().map(|parent| ("trace_id", parent.trace_id()));
    let all = [Some(("request_id", origin.request_id.as_str())), trace];
    all.into_iter().flatten().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What it says and why, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {error}");
        cause = error.source();
    }
    words
}

/// Code and reason, by the contract.
pub(super) fn code(refusal: &Refusal) -> (Code, &'static str) {
    use Code::{
        AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound, PermissionDenied,
        ResourceExhausted, Unauthenticated, Unavailable,
    };
    match refusal {
        Refusal::Key(KeyRefusal::Unknown) => (PermissionDenied, "KEY_UNKNOWN"),
        Refusal::Key(KeyRefusal::Used) => (PermissionDenied, "KEY_USED"),
        Refusal::Key(KeyRefusal::Expired(_)) => (PermissionDenied, "KEY_EXPIRED"),
        Refusal::Key(KeyRefusal::AgentKnown(_)) => (AlreadyExists, "AGENT_KNOWN"),
        Refusal::Key(KeyRefusal::AgentRevoked(_)) | Refusal::AgentRevoked(_) => {
            (PermissionDenied, "AGENT_REVOKED")
        }
        Refusal::Csr(_) | Refusal::BadEnrolment(_) => (InvalidArgument, "BAD_CSR"),
        Refusal::NoCertificate(_) => (Unauthenticated, "NO_CERTIFICATE"),
        Refusal::CertificateEnded(_) => (Unauthenticated, "CERTIFICATE_ENDED"),
        Refusal::Replaced(_) => (Unauthenticated, "CERTIFICATE_REPLACED"),
        Refusal::AgentUnknown(_) => (PermissionDenied, "AGENT_UNKNOWN"),
        Refusal::BadRegistration(_) => (InvalidArgument, "BAD_REGISTRATION"),
        Refusal::BadHeartbeat(_) => (InvalidArgument, "BAD_HEARTBEAT"),
        Refusal::BadEvents(_) => (InvalidArgument, "BAD_EVENTS"),
        Refusal::NotRegistered => (FailedPrecondition, "NOT_REGISTERED"),
        Refusal::Superseded => (FailedPrecondition, "SUPERSEDED"),
        Refusal::TooOften(_) => (ResourceExhausted, "TOO_MANY_CALLS"),
        Refusal::BadRequest(_) => (InvalidArgument, "BAD_REQUEST"),
        Refusal::NoSuchAgent(_) => (NotFound, "NO_SUCH_AGENT"),
        Refusal::Ambiguous { .. } => (FailedPrecondition, "AMBIGUOUS_NAME"),
        Refusal::NotCommandable { .. } => (FailedPrecondition, "NOT_COMMANDABLE"),
        Refusal::NoneFits(_) => (ResourceExhausted, "NONE_FITS"),
        Refusal::Command(CommandError::Unreachable { .. }) => (Unavailable, "AGENT_UNREACHABLE"),
        Refusal::Command(CommandError::TimedOut { .. }) => (Code::DeadlineExceeded, "AGENT_SLOW"),
        Refusal::Command(CommandError::Refused { status, .. }) => (status.code(), "AGENT_REFUSED"),
        Refusal::Slow => (Code::DeadlineExceeded, "SLOW"),
        Refusal::Died => (Internal, "FAILED"),
        Refusal::Store(_) => (Unavailable, "STORE_FAILED"),
        Refusal::Authority(_) => (Internal, "AUTHORITY_FAILED"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StoreError;
    use std::time::Duration;

    fn refused(refusal: &Refusal, counters: &Counters) -> Status {
        super::refused(refusal, &Origin::of_headers(Some("r-1"), None), counters)
    }

    #[test]
    fn a_refusal_on_the_wire_has_reason_and_domain_and_is_counted() {
        let counters = Counters::default();
        let status = refused(&Refusal::NotRegistered, &counters);
        assert_eq!(status.code(), Code::FailedPrecondition);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.domain.as_str()), ("NOT_REGISTERED", DOMAIN));
        assert_eq!(info.metadata["request_id"], "r-1");
        assert_eq!(counters.refusals()["NOT_REGISTERED"], 1);
    }

    #[test]
    fn what_went_wrong_inside_is_for_the_log() {
        let error = StoreError { doing: "write", source: "/secret/path".into() };
        let status = refused(&Refusal::Store(error), &Counters::default());
        assert_eq!(status.code(), Code::Unavailable);
        assert!(!format!("{status:?}").contains("secret"));
    }

    #[test]
    fn whoever_calls_too_often_is_told_how_long_to_wait() {
        let wait = Duration::from_millis(1500);
        let status = refused(&Refusal::TooOften(wait), &Counters::default());
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, Some(wait));
        assert!(status.message().contains("2 s"));
    }

    #[test]
    fn an_agents_refusal_keeps_its_words_and_details() {
        let details = ErrorDetails::with_error_info("CONFLICT", "agent.ghost", HashMap::new());
        let own = Status::with_error_details(Code::AlreadyExists, "the name is taken", details);
        let refusal = Refusal::Command(CommandError::Refused {
            name: "pc-1".to_owned(),
            status: Box::new(own),
        });
        let status = refused(&refusal, &Counters::default());
        assert_eq!(status.code(), Code::AlreadyExists);
        assert!(
            status.message().contains("pc-1") && status.message().contains("the name is taken")
        );
        assert_eq!(status.get_details_error_info().unwrap().domain, "agent.ghost");
    }
}
