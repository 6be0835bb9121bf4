//! TLS 1.3 only. As a server: a client's certificate is of our authority, or there is none (a first
//! contact has none). As a client: we show ours, and the agent's is of our authority and names it.

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::CertificateDer;

use crate::authority::Identity;

/// The authority's files can't be used for TLS.
#[derive(Debug, thiserror::Error)]
#[error("{path} can't be used for TLS; put back what ghost-api init made")]
pub struct TlsError {
    /// The certificate.
    path: String,
    /// What the library said.
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// What agents are met with.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(
    ca: &CertificateDer<'static>,
    identity: Identity,
) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let path = identity.path.display().to_string();
    let unfit = |source| TlsError { path: path.clone(), source };
    let provider = Arc::new(ring::default_provider());
    let roots = Arc::new(roots(ca).map_err(|error| unfit(error.into()))?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
        .allow_unauthenticated()
        .build()
        .map_err(|error| unfit(error.into()))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| unfit(error.into()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain, identity.key)
        .map_err(|error| unfit(error.into()))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be believed after its certificate has expired.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

/// What agents are commanded with.
///
/// # Errors
/// See [`TlsError`].
pub fn client_config(
    ca: &CertificateDer<'static>,
    identity: Identity,
) -> Result<Arc<rustls::ClientConfig>, TlsError> {
    let path = identity.path.display().to_string();
    let unfit = |source: rustls::Error| TlsError { path: path.clone(), source: source.into() };
    let mut config =
        rustls::ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_root_certificates(roots(ca).map_err(unfit)?)
            .with_client_auth_cert(identity.chain, identity.key)
            .map_err(unfit)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

fn roots(ca: &CertificateDer<'static>) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    Ok(roots)
}
