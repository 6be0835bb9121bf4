//! What the agent proves itself with. Invariant: a key and a certificate that belong together, or nothing.

use std::sync::Arc;

use ghost_core::domain::cause;
use ghost_core::domain::control::ControlError;
use jiff::Timestamp;
use rustls::crypto::ring;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use uuid::Uuid;
use x509_parser::prelude::{FromDer as _, X509Certificate};

pub use crate::identity::Credentials;
use crate::identity::Identity;

/// The URI in an agent's certificate (the wire contract).
#[must_use]
pub fn uri_of(agent: Uuid) -> String {
    format!("spiffe://ghost/agent/{agent}")
}

/// The DNS name in an agent's certificate (the wire contract).
#[must_use]
pub fn dns_name_of(agent: Uuid) -> String {
    format!("{agent}.agents.ghost.internal")
}

/// Where credentials come from, and how to have them read again.
#[derive(Clone)]
pub struct CredentialSource {
    /// What is in force; `None` while there is none.
    pub changes: watch::Receiver<Option<Arc<Credentials>>>,
    /// Reads the files again, after they were written. Blocks.
    pub reload: Arc<dyn Fn() + Send + Sync>,
}

impl std::fmt::Debug for CredentialSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CredentialSource").field("changes", &self.changes).finish_non_exhaustive()
    }
}

impl CredentialSource {
    /// What of the files is in force, and those files.
    #[must_use]
    pub fn of(identity: &Arc<Identity>) -> Self {
        let (changes, identity) = (identity.changes(), Arc::clone(identity));
        let reload = move || {
            if let Err(error) = identity.reload() {
                tracing::warn!(error = cause(&error), "keeping the former certificate");
            }
        };
        Self { changes, reload: Arc::new(reload) }
    }

    /// What is in force.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Credentials>> {
        self.changes.borrow().clone()
    }
}

/// Of a client that shows `chain`, and trusts `authorities` only.
pub(super) fn client_config(
    authorities: Vec<CertificateDer<'static>>,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority)?;
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would go on with the former certificate.
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// All certificates of a PEM file. Blocks.
pub(super) fn certificates(
    path: &std::path::Path,
) -> Result<Vec<CertificateDer<'static>>, ControlError> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    all.map_err(|error| unusable(path, &error))
}

/// From when to when a certificate is valid.
pub(super) fn validity(leaf: &CertificateDer<'_>) -> Result<(Timestamp, Timestamp), String> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(|error| error.to_string())?;
    let at = |time: x509_parser::time::ASN1Time| {
        Timestamp::from_second(time.timestamp()).map_err(|error| error.to_string())
    };
    Ok((at(certificate.validity().not_before)?, at(certificate.validity().not_after)?))
}

fn unusable(path: &std::path::Path, why: &dyn std::fmt::Display) -> ControlError {
    ControlError::refused(format!("{} can't be used: {why}", path.display()))
}
