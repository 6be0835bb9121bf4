//! A CA of a test's own, with a folder that an agent reads.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::TlsFiles;

/// A CA and a folder.
pub(crate) struct Authority {
    ca: CertifiedIssuer<'static, KeyPair>,
    pub(crate) folder: tempfile::TempDir,
}

/// A certificate and its key, PEM.
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// The name of an agent whose UUID ends so.
pub(crate) fn agent(last: u8) -> String {
    format!("spiffe://ghost/agent/00000000-0000-4000-8000-0000000000{last:02x}")
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { ca, folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Below `certs` in the folder.
    pub(crate) fn files(&self) -> TlsFiles {
        let path = |name: &str| self.path("certs").join(name);
        TlsFiles { cert: path("agent.crt"), key: path("agent.key"), ca: path("ca.crt") }
    }

    pub(crate) fn ca(&self) -> String {
        self.ca.pem()
    }

    pub(crate) fn issue(&self, uri: &str) -> Pair {
        self.issue_until(uri, Timestamp::now().as_second() + 365 * 86_400)
    }

    /// Valid from 2020 until then, in seconds since 1970.
    pub(crate) fn issue_until(&self, uri: &str, end: i64) -> Pair {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        let since_2020 = u64::try_from(end - 1_577_836_800).unwrap();
        params.not_after = params.not_before + std::time::Duration::from_secs(since_2020);
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &*self.ca).unwrap();
        Pair { cert: cert.pem(), key: key.serialize_pem() }
    }

    /// Writes a pair and the CA into a folder of that name.
    pub(crate) fn write(&self, name: &str, pair: &Pair) -> PathBuf {
        let folder = self.path(name);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("agent.crt"), &pair.cert).unwrap();
        std::fs::write(folder.join("agent.key"), &pair.key).unwrap();
        std::fs::write(folder.join("ca.crt"), self.ca()).unwrap();
        folder
    }

    /// Lets `certs` lead to a folder from now on, in one step.
    pub(crate) fn lead_to(&self, folder: &Path) {
        let new = self.path("new-link");
        symlink(folder, &new).unwrap();
        std::fs::rename(new, self.path("certs")).unwrap();
    }

    /// What a client with that certificate says of itself.
    pub(crate) fn client(&self, pair: &Pair) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.ca.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = vec![CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()];
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .unwrap();
        Arc::new(config)
    }
}
