//! Invariant: every way in which TLS can fail has words of its own, which say whose certificate it
//! was and what to change.

use std::io;
use std::sync::PoisonError;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

use super::{Exit, Failure};
use crate::connect::{Target, TlsVerdict};

/// The failure of a handshake; `error` is what tokio-rustls gave.
pub(crate) fn handshake(error: &io::Error, target: &Target) -> Failure {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(tls) => explain(tls, target),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            no_tls(target, "it hung up during the handshake")
        }
        None => no_tls(target, &error.to_string()),
    }
}

/// The alert that ended the connection after the handshake, if one did.
pub(crate) fn verdict(verdict: &TlsVerdict, target: &Target) -> Option<Failure> {
    let tls = verdict.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some(explain(&tls, target))
}

fn explain(error: &Error, target: &Target) -> Failure {
    match error {
        Error::InvalidCertificate(why) => agents_certificate(why, target),
        Error::AlertReceived(alert) => our_certificate(*alert, target),
        Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => no_tls(target, "it does not offer TLS 1.3"),
        Error::InvalidMessage(_) => no_tls(target, "it does not speak TLS"),
        other => unproven(
            format!("TLS with {target} failed: {other}"),
            "look at journalctl -u ghost-agent on its host",
        ),
    }
}

/// We do not believe the agent.
fn agents_certificate(why: &CertificateError, target: &Target) -> Failure {
    match why {
        // An issuer of the same name with another key shows as a bad signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => unproven(
            format!("the certificate of {target} is not signed by your CA"),
            "use the ca.crt that this agent was set up with (--ca or --certs)",
        ),
        CertificateError::ExpiredContext { not_after, .. } => {
            expired(format!("the certificate of {target} expired on {}", date(not_after.as_secs())))
        }
        CertificateError::Expired => expired(format!("the certificate of {target} has expired")),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => unproven(
            format!("the certificate of {target} is not valid yet"),
            "compare the clocks of both hosts (agentctl doctor shows this one's)",
        ),
        CertificateError::NotValidForNameContext { expected, presented } => unproven(
            format!(
                "the certificate of {target} is for {}, not for {}",
                names(presented),
                expected.to_str()
            ),
            "connect by one of its names, or say which you expect with --server-name",
        ),
        CertificateError::NotValidForName => unproven(
            format!("the certificate of {target} is for another name"),
            "say which you expect with --server-name",
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            unproven(
                format!("the certificate of {target} is not one of a server"),
                "the agent must present agent.crt, not operator.crt (grpc.tls_cert)",
            )
        }
        other => unproven(
            format!("the certificate of {target} is not acceptable: {other}"),
            "make a new one: agentctl certs init",
        ),
    }
}

/// The agent does not believe us.
fn our_certificate(alert: AlertDescription, target: &Target) -> Failure {
    let (what, remedy) = match alert {
        AlertDescription::CertificateRequired => {
            ("asks for a client certificate", "give yours with --cert and --key")
        }
        AlertDescription::UnknownCA
        | AlertDescription::DecryptError
        | AlertDescription::BadCertificate => (
            "does not know the CA that signed your certificate",
            "use a certificate of the agent's own CA (grpc.tls_ca)",
        ),
        AlertDescription::CertificateExpired => (
            "says that your certificate has expired",
            "make a new one, and compare the clocks of both hosts",
        ),
        AlertDescription::CertificateRevoked => {
            ("says that your certificate was revoked", "ask for a new one")
        }
        AlertDescription::CertificateUnknown | AlertDescription::UnsupportedCertificate => (
            "does not accept your certificate",
            "it must be a client certificate, such as operator.crt",
        ),
        AlertDescription::AccessDenied => {
            ("does not permit your certificate", "grpc.allowed_clients must list one of its names")
        }
        AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure => {
            return no_tls(target, "it does not agree to TLS 1.3");
        }
        AlertDescription::NoApplicationProtocol => {
            return no_tls(target, "it does not speak HTTP/2");
        }
        other => {
            let message = format!("{target} broke off TLS: {other:?}");
            return unproven(message, "look at journalctl -u ghost-agent on its host");
        }
    };
    unproven(format!("{target} {what}"), remedy)
}

fn unproven(message: String, remedy: &str) -> Failure {
    Failure::new(Exit::NotPermitted, message).remedy(remedy)
}

fn expired(message: String) -> Failure {
    unproven(message, "give the agent a new one (agentctl certs init), and check this host's clock")
}

fn no_tls(target: &Target, why: &str) -> Failure {
    Failure::new(Exit::Unavailable, format!("{target} is not an agent's TLS port: {why}"))
        .remedy("is this its grpc.listen_addr, and grpc.tls_enabled true?")
}

/// `2027-01-31 12:00:00Z`.
fn date(unix_seconds: u64) -> String {
    let stamp = i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    stamp.map_or_else(
        || "an unknown date".to_owned(),
        |stamp| stamp.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
    )
}

/// webpki shows each name as `DnsName("localhost")` or `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inner =
            name.split_once('(').map_or(name.as_str(), |(_, inner)| inner.trim_end_matches(')'));
        inner.trim_matches('"').to_owned()
    };
    match presented {
        [] => "no name".to_owned(),
        names => names.iter().map(bare).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_certificate_are_shown_bare() {
        let presented = ["DnsName(\"localhost\")".to_owned(), "IpAddress(::1)".to_owned()];
        assert_eq!(names(&presented), "localhost, ::1");
        assert_eq!(names(&[]), "no name");
    }

    #[test]
    fn each_refusal_of_our_certificate_says_what_to_change() {
        let target = Target::Socket("/s".into());
        for (alert, word) in [
            (AlertDescription::CertificateRequired, "--cert"),
            (AlertDescription::UnknownCA, "grpc.tls_ca"),
            (AlertDescription::CertificateExpired, "clocks"),
            (AlertDescription::CertificateRevoked, "new one"),
            (AlertDescription::CertificateUnknown, "operator.crt"),
            (AlertDescription::AccessDenied, "grpc.allowed_clients"),
        ] {
            let failure = explain(&Error::AlertReceived(alert), &target);
            assert_eq!(failure.exit, Exit::NotPermitted);
            assert!(
                failure.remedy.as_deref().is_some_and(|remedy| remedy.contains(word)),
                "{failure:?}"
            );
        }
    }
}
