//! A key, the request for its certificate, and the certificate that comes back.
//!
//! Invariant: the private key leaves the process for its file only; a certificate that is not exactly what was asked for (another
//! key, another agent, another authority, names left out) is never written.

use std::sync::Arc;

use ghost_core::domain::control::ControlError;
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, SanType};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use uuid::Uuid;

use super::credentials::{client_config, dns_name_of, uri_of};
use crate::grpc::san;

/// The most certificates of a chain, and their most bytes.
const LONGEST_CHAIN: usize = 8;
const LARGEST_CERTIFICATE: usize = 64 << 10;

/// A key and the request to certify it.
#[derive(Clone)]
pub(super) struct Asked {
    /// PKCS #8 in PEM.
    key: String,
    /// PKCS #10 in DER.
    pub(super) csr: Vec<u8>,
}

/// A key and its certificate.
pub(super) struct Issued {
    /// PKCS #8 in PEM.
    pub(super) key: String,
    /// The agent's first, without the authority's.
    pub(super) chain: Vec<CertificateDer<'static>>,
}

impl Asked {
    /// A new P-256 key, and a request whose only name is the agent's URI.
    pub(super) fn of(agent: Uuid) -> Result<Self, ControlError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .and_then(|key| Self::with(&key, agent))
            .map_err(|error| {
                ControlError::refused(format!(
                    "cannot make a key: {error}; report it as a fault of the agent"
                ))
            })
    }

    /// A request for a key that was made before; `None` if that is none.
    pub(super) fn again(key: &str, agent: Uuid) -> Option<Self> {
        KeyPair::from_pem(key).and_then(|key| Self::with(&key, agent)).ok()
    }

    fn with(key: &KeyPair, agent: Uuid) -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(uri_of(agent).try_into()?)];
        let csr = params.serialize_request(key)?.der().to_vec();
        Ok(Self { key: key.serialize_pem(), csr })
    }

    /// The key, to be kept until it is certified.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Takes the certificate if it is what was asked for, signed by one of `authorities`.
    pub(super) fn accept(
        self,
        agent: Uuid,
        chain: Vec<Vec<u8>>,
        authorities: &[CertificateDer<'static>],
    ) -> Result<Issued, ControlError> {
        let chain: Vec<_> = chain.into_iter().map(CertificateDer::from).collect();
        let leaf = chain.first().ok_or_else(|| wrong("is not there"))?;
        if chain.len() > LONGEST_CHAIN || chain.iter().any(|one| one.len() > LARGEST_CERTIFICATE) {
            return Err(wrong("is too large"));
        }
        let read = san::leaf(leaf).map_err(|error| wrong(&format!("can't be read: {error}")))?;
        let names: Vec<String> = read.names.iter().map(ToString::to_string).collect();
        for name in [uri_of(agent), dns_name_of(agent)] {
            if !names.contains(&name) {
                return Err(wrong(&format!("lacks the name {name}")));
            }
        }
        ensure_signed(agent, &chain, authorities)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes())
            .map_err(|error| wrong(&format!("can't be used: {error}")))?;
        client_config(authorities.to_vec(), chain.clone(), key).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => wrong("is for another key"),
            other => wrong(&format!("can't be used: {other}")),
        })?;
        Ok(Issued { key: self.key, chain })
    }
}

/// For clients and for servers: the agent is both.
fn ensure_signed(
    agent: Uuid,
    chain: &[CertificateDer<'static>],
    authorities: &[CertificateDer<'static>],
) -> Result<(), ControlError> {
    let Some((leaf, rest)) = chain.split_first() else { return Err(wrong("is not there")) };
    let check =
        || -> Result<(), Box<dyn std::error::Error>> {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone())?;
            }
            let (roots, provider) = (Arc::new(roots), Arc::new(ring::default_provider()));
            let now = UnixTime::now();
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()?
                .verify_client_cert(leaf, rest, now)?;
            let name = ServerName::try_from(dns_name_of(agent))?;
            WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()?
                .verify_server_cert(leaf, rest, &name, &[], now)?;
            Ok(())
        };
    check().map_err(|error| {
        wrong(&format!("does not hold before this agent's authority: {error} (compare the clocks)"))
    })
}

fn wrong(what: &str) -> ControlError {
    ControlError::refused(format!(
        "the certificate that the control plane issued {what}; it was not taken: look at the control plane"
    ))
}
