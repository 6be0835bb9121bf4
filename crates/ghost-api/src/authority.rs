//! The certificate authority. Invariant: its key signs nothing but the control plane's own certificates,
//! operators', and those of agents that the store let in; each names one identity.

pub mod files;
mod issue;

use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::domain::AgentId;
use crate::domain::csr::Accepted;
use crate::domain::token::Hash;
pub use issue::{BACKDATED, CONTROL_PLANE, Made, OPERATOR, make, operator};

/// Why the authority can't work.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file is not there.
    #[error("there is no {}; make an authority with: ghost-api init --name HOST", .0.display())]
    Missing(PathBuf),
    /// A file can't be read or used.
    #[error("cannot use {}; it must be as ghost-api init made it", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two files don't belong together.
    #[error("{} does not belong to {}; put back the pair that ghost-api init made", key.display(), certificate.display())]
    Mismatch {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The authority's own time is over.
    #[error(
        "the authority's certificate ended at {0}; make a new one with ghost-api init in another folder, and enrol the agents anew"
    )]
    Ended(Timestamp),
    /// The library refuses.
    #[error("a certificate cannot be made")]
    Issue(#[source] rcgen::Error),
}

/// A certificate and its key, for TLS.
#[derive(Debug)]
pub struct Identity {
    /// The certificate's file.
    pub path: PathBuf,
    /// The certificate, then the authority's: who has only an enrolment key finds its digest there.
    pub chain: Vec<CertificateDer<'static>>,
    /// The key.
    pub key: PrivateKeyDer<'static>,
}

/// The authority, ready to issue.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    ends: Timestamp,
    life: Duration,
}

impl Authority {
    /// Reads ca.crt and ca.key of a folder; agents' certificates will live for `life`.
    ///
    /// # Errors
    /// See [`AuthorityError`].
    pub fn load(folder: &Path, life: Duration) -> Result<Self, AuthorityError> {
        let (path, key_path) = (folder.join(files::CA.0), folder.join(files::CA.1));
        let certificate = certificate(&path)?;
        let unfit = |source: rcgen::Error| AuthorityError::File {
            path: key_path.clone(),
            source: source.into(),
        };
        let key = KeyPair::from_pem(&read(&key_path)?).map_err(unfit)?;
        let file = |source: Box<dyn std::error::Error + Send + Sync>| AuthorityError::File {
            path: path.clone(),
            source,
        };
        let (_, parsed) =
            X509Certificate::from_der(&certificate).map_err(|error| file(error.into()))?;
        if parsed.public_key().subject_public_key.data.as_ref()
            != rcgen::PublicKeyData::der_bytes(&key)
        {
            return Err(AuthorityError::Mismatch { key: key_path, certificate: path });
        }
        let ends = Timestamp::from_second(parsed.validity().not_after.timestamp())
            .map_err(|error| file(error.into()))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| file(error.into()))?;
        Ok(Self { issuer, certificate, ends, life })
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Its digest: the end of every enrolment key.
    #[must_use]
    pub fn digest(&self) -> Hash {
        Hash::of(&self.certificate)
    }

    /// A certificate for that agent, valid from [`BACKDATED`] ago.
    ///
    /// # Errors
    /// If the authority's own time is over, or the library refuses.
    pub fn certify(
        &self,
        agent: AgentId,
        request: &Accepted,
        now: Timestamp,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        if now >= self.ends {
            return Err(AuthorityError::Ended(self.ends));
        }
        let ends = now.checked_add(self.life).unwrap_or(self.ends).min(self.ends);
        let params = issue::agent(agent, now, ends).map_err(AuthorityError::Issue)?;
        let issued =
            params.signed_by(&request.public_key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(issued.der().clone())
    }

    /// Reads an identity that `init` made.
    ///
    /// # Errors
    /// If a file is missing or can't be used.
    pub fn identity(&self, folder: &Path, names: (&str, &str)) -> Result<Identity, AuthorityError> {
        let (path, key_path) = (folder.join(names.0), folder.join(names.1));
        let own = certificate(&path)?;
        let unfit = |source: rustls_pki_types::pem::Error| AuthorityError::File {
            path: key_path.clone(),
            source: source.into(),
        };
        let key = PrivateKeyDer::from_pem_slice(read(&key_path)?.as_bytes()).map_err(unfit)?;
        Ok(Identity { path, chain: vec![own, self.certificate.clone()], key })
    }
}

fn certificate(path: &Path) -> Result<CertificateDer<'static>, AuthorityError> {
    let unfit = |source: rustls_pki_types::pem::Error| AuthorityError::File {
        path: path.to_owned(),
        source: source.into(),
    };
    CertificateDer::from_pem_slice(read(path)?.as_bytes()).map_err(unfit)
}

fn read(path: &Path) -> Result<String, AuthorityError> {
    std::fs::read_to_string(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => AuthorityError::Missing(path.to_owned()),
        _ => AuthorityError::File { path: path.to_owned(), source: source.into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::csr;
    use rcgen::{CertificateParams, SanType};

    const DAY: Duration = Duration::from_secs(86_400);

    fn id() -> AgentId {
        "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55".parse().unwrap()
    }

    fn accepted(key: &KeyPair) -> Accepted {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(id().uri().try_into().unwrap())];
        csr::accept(params.serialize_request(key).unwrap().der(), id()).unwrap()
    }

    fn authority() -> (tempfile::TempDir, Authority) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("api");
        files::write(&path, &make(&["localhost".to_owned()], Timestamp::now()).unwrap()).unwrap();
        let authority = Authority::load(&path, 30 * DAY).unwrap();
        (folder, authority)
    }

    #[test]
    fn an_agents_certificate_names_it_and_nothing_else() {
        let (_folder, authority) = authority();
        let (key, now) = (KeyPair::generate().unwrap(), Timestamp::now());
        let der = authority.certify(id(), &accepted(&key), now).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        let names = parsed.subject_alternative_name().unwrap().unwrap();
        let names: Vec<String> =
            names.value.general_names.iter().map(ToString::to_string).collect();
        assert_eq!(names, [format!("URI({})", id().uri()), format!("DNSName({})", id().dns())]);
        assert!(!parsed.is_ca());
        let usage = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(usage.client_auth && usage.server_auth && !usage.any && !usage.code_signing);
        let (starts, ends) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        assert_eq!(now.as_second() - starts, i64::try_from(BACKDATED.as_secs()).unwrap());
        assert_eq!(ends - now.as_second(), 30 * 86_400);
        let (_, ca) = X509Certificate::from_der(authority.certificate()).unwrap();
        parsed.verify_signature(Some(ca.public_key())).unwrap();
    }

    #[test]
    fn no_certificate_outlives_the_authority() {
        let (_folder, authority) = authority();
        let request = accepted(&KeyPair::generate().unwrap());
        let late = authority.ends.checked_sub(DAY).unwrap();
        let der = authority.certify(id(), &request, late).unwrap();
        let (_, parsed) = X509Certificate::from_der(&der).unwrap();
        assert_eq!(parsed.validity().not_after.timestamp(), authority.ends.as_second());
        let ended = authority.certify(id(), &request, authority.ends).unwrap_err();
        assert!(matches!(ended, AuthorityError::Ended(_)));
    }

    #[test]
    fn two_certificates_of_one_key_differ_in_their_number() {
        let (_folder, authority) = authority();
        let request = accepted(&KeyPair::generate().unwrap());
        let serial = || {
            let der = authority.certify(id(), &request, Timestamp::now()).unwrap();
            X509Certificate::from_der(&der).unwrap().1.raw_serial().to_vec()
        };
        assert_ne!(serial(), serial());
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (folder, _authority) = authority();
        let path = folder.path().join("api");
        std::fs::copy(path.join("server.key"), path.join("ca.key")).unwrap();
        let refused = Authority::load(&path, DAY).unwrap_err();
        assert!(matches!(refused, AuthorityError::Mismatch { .. }), "{refused:?}");
        std::fs::remove_file(path.join("ca.key")).unwrap();
        assert!(Authority::load(&path, DAY).unwrap_err().to_string().contains("ghost-api init"));
    }
}
