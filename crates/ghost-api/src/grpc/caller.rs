//! Who is at the other end. Invariant: an agent is who its certificate names, and only if that names it
//! and nobody else.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::authority::BACKDATED;
use crate::domain::AgentId;
use crate::plane::Bearer;
use crate::refusal::Refusal;

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// Where it is.
    pub(super) peer: SocketAddr,
    /// What is proven about it.
    pub(super) proof: Proof,
}

/// What is proven about a caller.
#[derive(Debug, Clone, Copy)]
pub(super) enum Proof {
    /// Nothing: it is about to enrol.
    Nothing,
    /// It has a certificate of our authority, of no agent.
    NoAgent,
    /// It is an agent.
    Agent(Bearer),
}

impl Caller {
    /// The agent that calls.
    pub(super) fn bearer(&self) -> Result<Bearer, Refusal> {
        match self.proof {
            Proof::Agent(bearer) => Ok(bearer),
            Proof::NoAgent => Err(Refusal::NoCertificate("certificate names no agent")),
            Proof::Nothing => Err(Refusal::NoCertificate("connection has none")),
        }
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.proof {
            Proof::Agent(bearer) => write!(f, "agent {} at {}", bearer.agent, self.peer),
            Proof::NoAgent | Proof::Nothing => self.peer.fmt(f),
        }
    }
}

/// What a certificate that TLS has verified proves.
pub(super) fn proof(certificate: Option<&[u8]>) -> Proof {
    certificate.map_or(Proof::Nothing, |der| bearer(der).map_or(Proof::NoAgent, Proof::Agent))
}

fn bearer(der: &[u8]) -> Option<Bearer> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = &certificate.subject_alternative_name().ok()??.value.general_names;
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let (Some(uri), None) = (uris.next(), uris.next()) else { return None };
    let validity = certificate.validity();
    Some(Bearer {
        agent: AgentId::of_uri(uri)?,
        issued_at: Timestamp::from_second(validity.not_before.timestamp())
            .ok()?
            .checked_add(BACKDATED)
            .ok()?,
        ends: Timestamp::from_second(validity.not_after.timestamp()).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    const ID: &str = "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";

    fn of(uris: &[&str]) -> Option<AgentId> {
        let mut params = CertificateParams::default();
        params.subject_alt_names =
            uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
        let der = params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
        match proof(Some(&der)) {
            Proof::Agent(bearer) => Some(bearer.agent),
            Proof::Nothing | Proof::NoAgent => None,
        }
    }

    #[test]
    fn an_agent_is_who_its_certificate_names_alone() {
        let uri = format!("spiffe://ghost/agent/{ID}");
        assert_eq!(of(&[&uri]), Some(ID.parse().unwrap()));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&["spiffe://ghost/operator"]), None);
        assert_eq!(of(&[&uri, "spiffe://ghost/operator"]), None);
        assert!(matches!(proof(None), Proof::Nothing));
        assert!(matches!(proof(Some(b"garbage")), Proof::NoAgent));
    }
}
