//! Who may call. Invariant: no command without a proven, permitted identity: over TCP a
//! certificate of our CA with an allowed name, over the unix socket the kernel's word for it.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use jiff::Timestamp;
use tonic::{Request, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::status::DOMAIN;
use crate::config::ClientName;

/// Where a connection comes from, and what is proven about it.
#[derive(Debug, Clone)]
pub enum Caller {
    /// Mutual TLS: the subject alternative names of the client's certificate.
    Certificate {
        /// The other end.
        peer: SocketAddr,
        /// URI and DNS names.
        names: Arc<[ClientName]>,
        /// The last second in which the certificate is valid.
        until: Timestamp,
    },
    /// The unix socket: what the kernel says of the process at the other end.
    Local {
        /// Its user.
        uid: u32,
        /// Its process, where known.
        pid: Option<i32>,
    },
    /// TCP without TLS, which is accepted on loopback only.
    Loopback {
        /// The other end.
        peer: SocketAddr,
    },
}

impl Caller {
    /// Who it is, whatever connection it uses: what limits are kept by.
    #[must_use]
    pub fn identity(&self) -> String {
        match self {
            Self::Certificate { names, .. } => listed(names),
            Self::Local { uid, .. } => format!("uid {uid}"),
            Self::Loopback { .. } => "loopback".to_owned(),
        }
    }

    /// Until when it is who it is; without an end for those whom the kernel names.
    #[must_use]
    pub fn proven_until(&self) -> Option<Timestamp> {
        match self {
            Self::Certificate { until, .. } => Some(*until),
            Self::Local { .. } | Self::Loopback { .. } => None,
        }
    }

    fn is_on_this_host(&self) -> bool {
        match self {
            Self::Certificate { peer, .. } => peer.ip().is_loopback(),
            Self::Local { .. } | Self::Loopback { .. } => true,
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Certificate { peer, names, .. } => write!(f, "{} at {peer}", listed(names)),
            Self::Local { uid, pid: Some(pid) } => write!(f, "uid {uid}, pid {pid}"),
            Self::Local { uid, pid: None } => write!(f, "uid {uid}"),
            Self::Loopback { peer } => write!(f, "unauthenticated at {peer}"),
        }
    }
}

/// The names with their kinds, as openssl prints them: `URI:spiffe://ghost/operator`.
fn listed(names: &[ClientName]) -> String {
    let named = |name: &ClientName| match name {
        ClientName::Uri(uri) => format!("URI:{uri}"),
        ClientName::Dns(dns) => format!("DNS:{dns}"),
    };
    names.iter().map(named).collect::<Vec<_>>().join(", ")
}

/// The rule: which names may command (`grpc.allowed_clients`, matched exactly and by kind).
#[derive(Debug, Clone)]
pub struct Access {
    allowed: Arc<[ClientName]>,
}

impl Access {
    /// Certificates with one of these names may command.
    pub fn new(allowed: impl IntoIterator<Item = ClientName>) -> Self {
        Self { allowed: allowed.into_iter().collect() }
    }

    /// Whether a certificate with these names may command.
    #[must_use]
    pub fn permits(&self, names: &[ClientName]) -> bool {
        names.iter().any(|name| self.allowed.contains(name))
    }

    fn decide(&self, caller: Option<&Caller>, now: Timestamp) -> Result<(), Status> {
        match caller {
            Some(Caller::Local { .. } | Caller::Loopback { .. }) => Ok(()),
            // The connection was made while it was valid.
            Some(Caller::Certificate { until, .. }) if *until < now => Err(expired(*until)),
            Some(Caller::Certificate { names, .. }) if self.permits(names) => Ok(()),
            Some(Caller::Certificate { names, .. }) => {
                let names = listed(names);
                Err(denied(format!(
                    "the certificate's names ({names}) are not permitted; add one of them to grpc.allowed_clients in the agent's config, without URI: or DNS:",
                )))
            }
            None => Err(denied("the connection has no identity".to_owned())),
        }
    }
}

fn expired(at: Timestamp) -> Status {
    let details = ErrorDetails::with_error_info("UNAUTHENTICATED", DOMAIN, HashMap::new());
    let message = format!("the client's certificate expired at {at}; connect again with a new one");
    Status::with_error_details(tonic::Code::Unauthenticated, message, details)
}

fn denied(message: String) -> Status {
    let details = ErrorDetails::with_error_info("PERMISSION_DENIED", DOMAIN, HashMap::new());
    Status::with_error_details(tonic::Code::PermissionDenied, message, details)
}

impl tonic::service::Interceptor for Access {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        self.decide(request.extensions().get::<Caller>(), Timestamp::now()).map(|()| request)
    }
}

/// Lets only callers on this host pass: for server reflection.
///
/// # Errors
/// `PERMISSION_DENIED`.
pub fn on_this_host_only(request: Request<()>) -> Result<Request<()>, Status> {
    match request.extensions().get::<Caller>() {
        Some(caller) if caller.is_on_this_host() => Ok(request),
        _ => Err(denied("server reflection is answered on this host only".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPERATOR: &str = "spiffe://ghost/operator";

    fn uri(name: &str) -> ClientName {
        ClientName::Uri(name.to_owned())
    }

    fn dns(name: &str) -> ClientName {
        ClientName::Dns(name.to_owned())
    }

    fn certificate(names: impl Into<Arc<[ClientName]>>) -> Caller {
        let (peer, until) = (([100, 64, 0, 1], 4000).into(), NOW);
        Caller::Certificate { peer, names: names.into(), until }
    }

    /// The last second in which the callers' certificates are valid.
    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    #[test]
    fn only_an_exact_name_of_the_list_may_command() {
        let access = Access::new([uri(OPERATOR)]);
        let may = |names: Vec<ClientName>| access.decide(Some(&certificate(names)), NOW).is_ok();
        assert!(may(vec![uri(OPERATOR)]));
        assert!(may(vec![dns("other"), uri(OPERATOR)]));
        for wrong in
            ["spiffe://ghost/operator/x", "spiffe://ghost/operato", "SPIFFE://GHOST/OPERATOR", ""]
        {
            assert!(!may(vec![uri(wrong)]), "{wrong}");
        }
        assert!(!may(vec![]));
        assert!(access.decide(None, NOW).is_err());
    }

    #[test]
    fn a_name_of_the_other_kind_is_another_name() {
        let access = Access::new([uri(OPERATOR), dns("ops.example.org")]);
        assert!(access.permits(&[dns("ops.example.org")]));
        assert!(!access.permits(&[dns(OPERATOR)]));
        assert!(!access.permits(&[uri("ops.example.org")]));
    }

    #[test]
    fn an_empty_list_permits_no_certificate() {
        assert!(Access::new([]).decide(Some(&certificate([uri("")])), NOW).is_err());
    }

    #[test]
    fn whose_certificate_has_expired_is_refused_on_a_connection_from_before() {
        let access = Access::new([uri(OPERATOR)]);
        let later = NOW + jiff::SignedDuration::from_secs(1);
        let refused = access.decide(Some(&certificate([uri(OPERATOR)])), later).unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated);
        assert!(refused.message().contains("expired at 1970-01-01T00:00:00Z"), "{refused}");
        let local = Caller::Local { uid: 0, pid: None };
        assert!(access.decide(Some(&local), later).is_ok());
    }

    #[test]
    fn reflection_is_refused_to_others_than_this_host() {
        let ask = |caller: Caller| {
            let mut request = Request::new(());
            request.extensions_mut().insert(caller);
            on_this_host_only(request).is_ok()
        };
        assert!(!ask(certificate([uri(OPERATOR)])));
        assert!(ask(Caller::Local { uid: 0, pid: None }));
    }
}
