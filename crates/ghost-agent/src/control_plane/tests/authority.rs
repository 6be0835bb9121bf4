//! An authority, and what it signs.

use std::path::Path;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use ghost_core::ports::Clock;
use ghost_core::testing::FakeClock;
use ghost_host::SystemClock;

use crate::config::TlsFiles;
use crate::control_plane::credentials::{CredentialSource, dns_name_of, uri_of};
use crate::identity::Identity;

pub(crate) const AGENT: Uuid = Uuid::from_u128(7);
pub(crate) const SECRET: &str = "abcdefghijklmnopqrstuvwxyz234567abcdefghijklmnopqrst";

pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// From and to when, in years.
pub(crate) type Years = (i32, i32);

pub(crate) const NOW: Years = (2020, 2100);
pub(crate) const PAST: Years = (2020, 2021);

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name = DistinguishedName::new();
        Arc::new(Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()))
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// `GHOST_API_KEY` as this authority gives it out.
    pub(crate) fn key(&self) -> String {
        let digits: String =
            Sha256::digest(self.0.der()).iter().map(|b| format!("{b:02x}")).collect();
        format!("ghost-1-{SECRET}-{digits}")
    }

    /// A certificate with these names, and its key.
    pub(crate) fn signs(
        &self,
        names: Vec<SanType>,
        (from, to): Years,
    ) -> (CertificateDer<'static>, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = names;
        params.not_before = rcgen::date_time_ymd(from, 1, 1);
        params.not_after = rcgen::date_time_ymd(to, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.0).unwrap().der().clone(), key)
    }

    /// What an agent asks for, with those names in place of the ones that it may not ask for.
    pub(crate) fn certifies(&self, csr: &[u8], names: Vec<SanType>) -> CertificateDer<'static> {
        let csr = CertificateSigningRequestDer::from(csr.to_vec());
        let mut asked = CertificateSigningRequestParams::from_der(&csr).unwrap();
        assert_eq!(
            asked.params.subject_alt_names,
            vec![SanType::URI(uri_of(AGENT).try_into().unwrap())]
        );
        asked.params.subject_alt_names = names;
        asked.params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        asked.signed_by(&self.0).unwrap().der().clone()
    }

    /// The files of that agent, with a certificate that was issued.
    pub(crate) fn equips(&self, folder: &Path, years: Years) -> TlsFiles {
        let files = files_in(folder);
        let (cert, key) = self.signs(agent_names(AGENT), years);
        std::fs::write(&files.cert, pem(&cert)).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.ca, self.0.pem()).unwrap();
        files
    }
}

pub(crate) fn files_in(folder: &Path) -> TlsFiles {
    let file = |name: &str| folder.join(name);
    TlsFiles { cert: file("agent.crt"), key: file("agent.key"), ca: file("ca.crt") }
}

pub(crate) fn agent_names(agent: Uuid) -> Vec<SanType> {
    vec![
        SanType::URI(uri_of(agent).try_into().unwrap()),
        SanType::DnsName(dns_name_of(agent).try_into().unwrap()),
    ]
}

pub(crate) fn host(name: &str) -> Vec<SanType> {
    match name.parse() {
        Ok(ip) => vec![SanType::IpAddress(ip)],
        Err(_) => vec![SanType::DnsName(name.try_into().unwrap())],
    }
}

pub(crate) fn source(files: &TlsFiles) -> CredentialSource {
    source_by(files, Arc::new(SystemClock::new()))
}

/// Of an agent that read its certificate in the middle of 2020.
pub(crate) fn source_in_the_past(files: &TlsFiles) -> CredentialSource {
    const FIVE_AND_A_HALF_YEARS: i64 = 2_007 * 86_400;
    let clock = FakeClock::default();
    clock.jump(-FIVE_AND_A_HALF_YEARS);
    source_by(files, Arc::new(clock))
}

fn source_by(files: &TlsFiles, clock: Arc<dyn Clock>) -> CredentialSource {
    let identity = Identity::awaited(files, clock);
    let _absent_yet = identity.reload();
    CredentialSource::of(&Arc::new(identity))
}

fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
}
