//! Certificates: the development ones of `agentctl certs init`, and bad ones made for a test.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use tokio::process::Command;

use crate::path_from;

/// A folder as `agentctl certs init` makes it.
#[derive(Debug, Clone)]
pub struct Certs(PathBuf);

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The certificate, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

/// When a certificate made for a test is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// Now.
    Now,
    /// It was, until 2021.
    Past,
}

impl Certs {
    /// Makes the folder with agentctl.
    ///
    /// # Errors
    /// With what agentctl said.
    pub async fn init(folder: &Path) -> anyhow::Result<Self> {
        let output = Command::new(path_from("GHOST_E2E_AGENTCTL")?)
            .args(["certs", "init"])
            .arg(folder)
            .output()
            .await?;
        ensure!(output.status.success(), "certs init: {}", String::from_utf8_lossy(&output.stderr));
        Ok(Self(folder.to_owned()))
    }

    /// The CA's certificate.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.0.join("ca.crt")
    }

    /// The operator's certificate and key.
    #[must_use]
    pub fn operator(&self) -> Identity {
        Identity { cert: self.0.join("operator.crt"), key: self.0.join("operator.key") }
    }

    /// A certificate of this CA with that one URI name.
    ///
    /// # Errors
    /// If the CA's files are not there.
    pub fn issue(&self, uri: &str, validity: Validity) -> anyhow::Result<Identity> {
        self.sign(leaf(uri, validity)?)
    }

    /// A certificate of this CA with that one DNS name, whatever it looks like.
    ///
    /// # Errors
    /// If the CA's files are not there.
    pub fn issue_dns(&self, name: &str) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.subject_alt_names = vec![SanType::DnsName(name.try_into()?)];
        self.sign(params)
    }

    fn sign(&self, params: CertificateParams) -> anyhow::Result<Identity> {
        let ca_key = KeyPair::from_pem(&std::fs::read_to_string(self.0.join("ca.key"))?)?;
        let issuer = rcgen::Issuer::from_ca_cert_pem(&std::fs::read_to_string(self.ca())?, ca_key)?;
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &issuer)?;
        store(&self.0, &cert.pem(), &key)
    }

    /// A certificate of a CA that nobody knows.
    ///
    /// # Errors
    /// If it can't be written.
    pub fn issue_elsewhere(&self, uri: &str) -> anyhow::Result<Identity> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let cert = leaf(uri, Validity::Now)?.signed_by(&key, &issuer)?;
        store(&self.0, &cert.pem(), &key)
    }
}

fn leaf(uri: &str, validity: Validity) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()])?;
    params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
    if validity == Validity::Past {
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
    }
    Ok(params)
}

fn store(folder: &Path, cert: &str, key: &KeyPair) -> anyhow::Result<Identity> {
    let name = uuid::Uuid::new_v4();
    let path = |end: &str| folder.join(format!("{name}.{end}"));
    let identity = Identity { cert: path("crt"), key: path("key") };
    std::fs::write(&identity.cert, cert).context("the certificate")?;
    std::fs::write(&identity.key, key.serialize_pem()).context("its key")?;
    Ok(identity)
}
