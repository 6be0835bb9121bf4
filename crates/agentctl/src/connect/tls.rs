//! Invariant: TLS 1.3 only, the agent's certificate is verified against one given CA and no other,
//! and we always present our own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::cli::Connection;
use crate::errors::{Exit, Failure};

const HOW: &str =
    "give --certs DIR with ca.crt, operator.crt and operator.key, or --ca, --cert and --key";

/// Three files, from `--certs` unless named one by one.
struct Files {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

/// Reads the certificates that `options` names.
///
/// # Errors
/// Exit 2 when one is not given, cannot be read, or the key does not belong to the certificate; 9 when a file
/// may not be read.
pub(crate) fn client_config(options: &Connection) -> Result<ClientConfig, Failure> {
    let files = Files::of(options)?;
    let mut roots = RootCertStore::empty();
    for certificate in certificates(&files.ca)? {
        roots.add(certificate).map_err(|error| unfit(&files.ca, &error))?;
    }
    let chain = certificates(&files.cert)?;
    let key = private_key(&files.key)?;
    let mut config =
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| Failure::local(format!("TLS 1.3 is not available: {error}")))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .map_err(|error| mismatch(&files, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

impl Files {
    fn of(options: &Connection) -> Result<Self, Failure> {
        let pick = |given: &Option<PathBuf>, name: &str, option: &str| {
            let from_folder = || options.certs.as_ref().map(|folder| folder.join(name));
            given.clone().or_else(from_folder).ok_or_else(|| {
                Failure::usage(format!("a remote agent needs certificates and {option} is missing"))
                    .remedy(HOW)
            })
        };
        Ok(Self {
            ca: pick(&options.ca, "ca.crt", "--ca")?,
            cert: pick(&options.cert, "operator.crt", "--cert")?,
            key: pick(&options.key, "operator.key", "--key")?,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = read(path)?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(path, &error))?;
    if all.is_empty() {
        return Err(unfit(path, &"there is no certificate in it"));
    }
    Ok(all)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Failure> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| unfit(path, &error))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, format!("you may not read {}", path.display()))
                .remedy("run as the owner of the file, or use a key of your own")
        }
        _ => Failure::usage(format!("cannot read {}: {error}", path.display())).remedy(HOW),
    })
}

fn unfit(path: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::usage(format!("{} cannot be used: {why}", path.display()))
        .remedy("it must be PEM, as agentctl certs init writes it")
}

fn mismatch(files: &Files, error: &rustls::Error) -> Failure {
    let (key, cert) = (files.key.display(), files.cert.display());
    match error {
        rustls::Error::InconsistentKeys(_) => {
            Failure::usage(format!("the key {key} does not belong to the certificate {cert}"))
                .remedy("give the pair that was made together")
        }
        other => Failure::usage(format!("{key} and {cert} cannot be used: {other}")).remedy(HOW),
    }
}
