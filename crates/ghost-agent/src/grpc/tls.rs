//! TLS 1.3 only, with a client certificate of our CA that is checked anew on each connection:
//! built from three files, each of which is refused at start-up with its own words.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::config::TlsFiles;

/// Why the TLS files can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or can't be read.
    #[error("{key} {}: cannot be read; it must be a PEM file that the agent's user may read", path.display())]
    Read {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A file holds nothing of the kind it should.
    #[error("{key} {}: holds no {wanted} in PEM form", path.display())]
    Empty {
        /// The config's key.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
    },
    /// The certificate's time is over, or has not come.
    #[error("grpc.tls_cert {}: {problem}; renew it, or set the host's clock", path.display())]
    Time {
        /// The file.
        path: PathBuf,
        /// When it was or will be valid.
        problem: String,
    },
    /// Key and certificate don't belong together.
    #[error("grpc.tls_key {} does not belong to grpc.tls_cert {}; use the key that the certificate was made for", key.display(), cert.display())]
    Mismatch {
        /// The certificate's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// The library refuses them.
    #[error("the certificates can't be used for TLS")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// The server's TLS configuration.
///
/// # Errors
/// See [`TlsError`].
pub fn server_config(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, TlsError> {
    let chain = certificates("grpc.tls_cert", &files.cert)?;
    let key = PrivateKeyDer::from_pem_file(&files.key).map_err(|source| match source {
        rustls_pki_types::pem::Error::NoItemsFound => {
            TlsError::Empty { key: "grpc.tls_key", path: files.key.clone(), wanted: "private key" }
        }
        source => TlsError::Read { key: "grpc.tls_key", path: files.key.clone(), source },
    })?;
    if let Some(leaf) = chain.first() {
        ensure_valid_now(leaf, &files.cert)?;
    }
    let mut roots = RootCertStore::empty();
    for ca in certificates("grpc.tls_ca", &files.ca)? {
        roots.add(ca).map_err(unusable)?;
    }
    let provider = Arc::new(ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .map_err(unusable)?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(unusable)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
            }
            other => unusable(other),
        })?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would be believed after its certificate has expired.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(Arc::new(config))
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = |source| TlsError::Read { key, path: path.to_owned(), source };
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(read)?
        .collect::<Result<_, _>>()
        .map_err(read)?;
    if all.is_empty() {
        return Err(TlsError::Empty { key, path: path.to_owned(), wanted: "certificate" });
    }
    Ok(all)
}

fn ensure_valid_now(leaf: &CertificateDer<'_>, path: &Path) -> Result<(), TlsError> {
    let (_, certificate) = X509Certificate::from_der(leaf).map_err(unusable)?;
    let validity = certificate.validity();
    if validity.is_valid() {
        return Ok(());
    }
    let problem = format!(
        "is valid from {} to {} only, and it is {} now",
        validity.not_before,
        validity.not_after,
        x509_parser::time::ASN1Time::now()
    );
    Err(TlsError::Time { path: path.to_owned(), problem })
}

fn unusable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::Unusable(error.into())
}
