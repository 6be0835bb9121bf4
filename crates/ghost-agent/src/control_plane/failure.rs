//! What a failed call means. Invariant: whatever the other side sends, the text is one line of bounded length, and the same
//! cause gives the same text, so that it is logged once.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use ghost_core::domain::control::{ControlError, Refusal};
use rustls::{AlertDescription, CertificateError};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::dial::DialError;
use super::target::Target;

/// The domain of the control plane's reasons (the wire contract).
const DOMAIN: &str = "controlplane.ghost";

/// The most characters of the other side's text that are shown.
const LONGEST_TEXT: usize = 300;

/// Of a call that gave `status`, over a connection of which TLS said `verdict`.
pub(super) fn of(status: &Status, verdict: Option<rustls::Error>, target: &Target) -> ControlError {
    if let Some(dial) = find::<DialError>(status) {
        return of_dial(dial, target);
    }
    if let Some(info) = status.get_details_error_info().filter(|info| info.domain == DOMAIN) {
        return of_reason(&info.reason, status, target);
    }
    if let Some(tls) = verdict {
        return of_tls(&tls, target);
    }
    let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
    by_code(status, retry_after, target)
}

/// Of a call that took too long.
pub(super) fn too_long(limit: Duration, target: &Target) -> ControlError {
    let seconds = limit.as_secs();
    ControlError::transient(format!(
        "the control plane at {target} gave no answer in {seconds} s; see whether it is overloaded"
    ))
}

/// Of an answer that is not as the contract says.
pub(super) fn garbled(what: &str, target: &Target) -> ControlError {
    ControlError::transient(format!(
        "the control plane at {target} answered with {what}; is agent.api_url that of a Ghost API?"
    ))
}

fn of_reason(reason: &str, status: &Status, target: &Target) -> ControlError {
    let (refusal, remedy) = match reason {
        "NOT_REGISTERED" => (Refusal::NotRegistered, "it is told again who this is"),
        "SUPERSEDED" => (Refusal::Superseded, "stop the other, or start this one again"),
        "AGENT_UNKNOWN" | "CERTIFICATE_REPLACED" => {
            (Refusal::Refused, "enrol it with a new key: remove its certificate, set GHOST_API_KEY")
        }
        "AGENT_REVOKED" => (Refusal::Refused, "ask whoever runs the control plane"),
        "KEY_UNKNOWN" => (Refusal::Refused, "copy GHOST_API_KEY again, or ask for a new one"),
        "KEY_USED" | "KEY_EXPIRED" | "AGENT_KNOWN" => {
            (Refusal::Refused, "ask for a new key and set it as GHOST_API_KEY")
        }
        "BAD_CSR" | "BAD_REGISTRATION" => {
            (Refusal::Refused, "agent and control plane may be of versions that do not fit")
        }
        _ => return by_code(status, None, target),
    };
    let said = line(status.message());
    ControlError::new(
        refusal,
        format!("the control plane at {target} says {reason}: {said}; {remedy}"),
    )
}

/// The contract's classes. What never came from a control plane (a broken connection, another server's answer) is taken to
/// pass.
fn by_code(status: &Status, retry_after: Option<Duration>, target: &Target) -> ControlError {
    let (code, said) = (status.code(), line(status.message()));
    match code {
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::Cancelled
        | Code::Unknown
        | Code::Internal
        | Code::DataLoss => ControlError::new(
            Refusal::Transient { retry_after },
            format!(
                "the control plane at {target} does not answer as it should ({code:?}: {said}); look at its log"
            ),
        ),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => ControlError::refused(format!(
            "the control plane at {target} refuses ({code:?}: {said}); look at its log, and whether agent.api_url is right"
        )),
    }
}

fn of_dial(error: &DialError, target: &Target) -> ControlError {
    match error {
        DialError::Tcp(error) => ControlError::transient(format!(
            "cannot reach the control plane at {target}: {}; see whether it runs, and the VPN (agent.api_url)",
            error.kind()
        )),
        DialError::NotThere(error) => ControlError::transient(crate::grpc::call::chain(error)),
        DialError::TooLong => ControlError::transient(format!(
            "{error} with the control plane at {target}; see whether it runs, and the VPN (agent.api_url)"
        )),
        DialError::Tls(error) => match error.get_ref().and_then(|e| e.downcast_ref()) {
            Some(tls) => of_tls(tls, target),
            None => no_tls(error, target),
        },
    }
}

fn no_tls(error: &io::Error, target: &Target) -> ControlError {
    ControlError::transient(format!(
        "{target} broke off TLS ({}); is agent.api_url that of a Ghost API?",
        error.kind()
    ))
}

fn of_tls(error: &rustls::Error, target: &Target) -> ControlError {
    match error {
        rustls::Error::InvalidCertificate(why) => theirs(why, target),
        rustls::Error::AlertReceived(alert) => ours(*alert, target),
        rustls::Error::General(why) => ControlError::refused(line(why)),
        other => ControlError::transient(format!(
            "TLS with {target} failed: {other}; is agent.api_url that of a Ghost API?"
        )),
    }
}

/// We do not believe it.
fn theirs(why: &CertificateError, target: &Target) -> ControlError {
    let text = match why {
        // An issuer of the same name with another key shows as a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => format!(
            "the certificate of {target} is not signed by this agent's authority (grpc.tls_ca); see whether agent.api_url is right"
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => format!(
            "the certificate of {target} has expired; renew it there, and compare the clocks of both hosts"
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => format!(
            "the certificate of {target} is not valid yet; compare the clocks of both hosts"
        ),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            format!(
                "the certificate of {target} is for another host; see whether agent.api_url is right"
            )
        }
        other => format!("the certificate of {target} is not acceptable: {other}; renew it there"),
    };
    ControlError::refused(text)
}

/// It does not believe us.
fn ours(alert: AlertDescription, target: &Target) -> ControlError {
    let text = match alert {
        AlertDescription::CertificateExpired => {
            "says that the agent's certificate has expired; enrol again with a new key (GHOST_API_KEY), and compare the clocks of both hosts"
        }
        AlertDescription::CertificateRevoked => {
            "says that the agent's certificate was revoked; ask whoever runs it"
        }
        AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateRequired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::AccessDenied => {
            "does not accept the agent's certificate (grpc.tls_cert); remove it and enrol again with a new key (GHOST_API_KEY)"
        }
        other => {
            return ControlError::transient(format!(
                "{target} broke off TLS ({other:?}); is agent.api_url that of a Ghost API?"
            ));
        }
    };
    ControlError::refused(format!("the control plane at {target} {text}"))
}

fn find<E: StdError + 'static>(status: &Status) -> Option<&E> {
    let mut next = status.source();
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// Somebody else's text, in one line.
fn line(text: &str) -> String {
    let shown: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_TEXT).collect();
    shown.trim().to_owned()
}
