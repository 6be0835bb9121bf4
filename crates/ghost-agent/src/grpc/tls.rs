//! TLS 1.3 only, both sides proven anew on each connection. Invariant: a server and a client
//! configuration are made together, of the same certificate, or not at all; each file that is unfit is
//! refused with its own words.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::{Error as PemError, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::san;
use crate::config::TlsFiles;

/// Largest file that is read: a chain of four with large keys has 10 kB.
const LARGEST: u64 = 1 << 20;

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
        source: PemError,
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
    /// The file's certificate is another agent's.
    #[error("grpc.tls_cert {}: lacks the name {name}, which the certificate in force has, so it is another agent's; put this agent's own there, or restart the agent if it is to become another one", path.display())]
    OtherAgent {
        /// The file.
        path: PathBuf,
        /// The URI that it lacks.
        name: String,
    },
    /// The library refuses them.
    #[error("the certificates can't be used for TLS")]
    Unusable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What the three files give.
pub struct Material {
    /// The agent's certificate chain, its own first.
    chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    key: PrivateKeyDer<'static>,
    /// The authorities of those at the other end, never empty.
    authorities: Vec<CertificateDer<'static>>,
}

impl std::fmt::Debug for Material {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Material").field("certificates", &self.chain.len()).finish_non_exhaustive()
    }
}

impl Material {
    /// Reads the files.
    ///
    /// # Errors
    /// If one is absent, unreadable, or holds something else.
    pub fn read(files: &TlsFiles) -> Result<Self, TlsError> {
        let chain = certificates("grpc.tls_cert", &files.cert)?;
        let pem = contents("grpc.tls_key", &files.key)?;
        let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|source| match source {
            PemError::NoItemsFound => TlsError::Empty {
                key: "grpc.tls_key",
                path: files.key.clone(),
                wanted: "private key",
            },
            source => TlsError::Read { key: "grpc.tls_key", path: files.key.clone(), source },
        })?;
        let authorities = certificates("grpc.tls_ca", &files.ca)?;
        Ok(Self { chain, key, authorities })
    }

    /// What the agent's own certificate says.
    ///
    /// # Errors
    /// If it can't be parsed, or is not valid at `now`.
    pub fn leaf(&self, files: &TlsFiles, now: Timestamp) -> Result<san::Leaf, TlsError> {
        let leaf = self.chain.first().map(|der| san::leaf(der)).transpose().map_err(unusable)?;
        let leaf = leaf.ok_or_else(|| unusable("there is no certificate"))?;
        if leaf.not_before <= now && now <= leaf.not_after {
            return Ok(leaf);
        }
        let san::Leaf { not_before, not_after, .. } = leaf;
        let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let problem =
            format!("is valid from {not_before} to {not_after} only, and it is {now} now");
        Err(TlsError::Time { path: files.cert.clone(), problem })
    }

    /// Whether the other has the same certificates.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.chain == other.chain && self.authorities == other.authorities
    }

    /// For connections that others make to the agent.
    ///
    /// # Errors
    /// If the key is another certificate's, or the library refuses something.
    pub fn server(&self, files: &TlsFiles) -> Result<Arc<ServerConfig>, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(unusable)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| pair(files, error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        // A resumed session would be believed after its certificate has expired.
        config.send_tls13_tickets = 0;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
    }

    /// For connections that the agent makes.
    ///
    /// # Errors
    /// As [`Self::server`].
    pub fn client(&self, files: &TlsFiles) -> Result<Arc<ClientConfig>, TlsError> {
        let provider: Arc<CryptoProvider> = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unusable)?
            .with_root_certificates(self.roots()?)
            .with_client_auth_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| pair(files, error))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        for ca in &self.authorities {
            roots.add(ca.clone()).map_err(unusable)?;
        }
        Ok(roots)
    }
}

fn pair(files: &TlsFiles, error: rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { cert: files.cert.clone(), key: files.key.clone() }
        }
        other => unusable(other),
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = contents(key, path)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Read { key, path: path.to_owned(), source })?;
    if all.is_empty() {
        return Err(TlsError::Empty { key, path: path.to_owned(), wanted: "certificate" });
    }
    Ok(all)
}

/// What a file holds, if it is one of a sensible size.
fn contents(key: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    let read = || {
        // Opening a FIFO that nobody writes to would never return.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
        }
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        match u64::try_from(bytes.len()) {
            Ok(length) if length <= LARGEST => Ok(bytes),
            Ok(_) | Err(_) => Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large")),
        }
    };
    read().map_err(|error| TlsError::Read {
        key,
        path: path.to_owned(),
        source: PemError::Io(error),
    })
}

fn unusable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> TlsError {
    TlsError::Unusable(error.into())
}
