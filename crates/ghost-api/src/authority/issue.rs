//! What is in a certificate. Keys made here are ECDSA P-256: every TLS library has it.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};

use super::{Authority, AuthorityError};
use crate::domain::AgentId;

/// Who commands agents.
pub const CONTROL_PLANE: &str = "spiffe://ghost/control-plane";
/// Who commands a single agent by agentctl.
pub const OPERATOR: &str = "spiffe://ghost/operator";

/// Certificates begin so long before they are made, for clocks that are behind.
pub const BACKDATED: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// Ten years.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The authority's key lies beside the control plane's own: a shorter life would protect nothing.
const OWN_LIFE: Duration = CA_LIFE;
/// An operator's key is taken elsewhere.
const OPERATOR_LIFE: Duration = Duration::from_secs(365 * 86_400);

/// A certificate and its private key, both PEM.
pub struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pair(…)")
    }
}

/// All that a control plane begins with.
#[derive(Debug)]
pub struct Made {
    pub(super) ca: Pair,
    pub(super) server: Pair,
    pub(super) control_plane: Pair,
    pub(super) operator: Pair,
}

/// Makes an authority and what the control plane needs, which agents will reach at `names`: IPs or DNS names.
///
/// # Errors
/// If a name can't be in a certificate, or the system has no randomness.
pub fn make(names: &[String], now: Timestamp) -> Result<Made, Error> {
    let key = KeyPair::generate()?;
    let ca_key = key.serialize_pem();
    let ca = CertifiedIssuer::self_signed(authority(now)?, key)?;
    let server_names = names.iter().map(|name| san(name)).collect::<Result<_, _>>()?;
    let server = Leaf {
        name: "control plane",
        names: server_names,
        usages: vec![ExtendedKeyUsagePurpose::ServerAuth],
        life: OWN_LIFE,
    };
    let uri = |name, uri: &str, life| -> Result<Leaf<'_>, Error> {
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Ok(Leaf { name, names: vec![SanType::URI(uri.try_into()?)], usages, life })
    };
    Ok(Made {
        server: server.pair(&ca, now)?,
        control_plane: uri("control plane", CONTROL_PLANE, OWN_LIFE)?.pair(&ca, now)?,
        operator: uri("operator", OPERATOR, OPERATOR_LIFE)?.pair(&ca, now)?,
        ca: Pair { certificate: ca.pem(), key: ca_key },
    })
}

/// Another operator's certificate.
///
/// # Errors
/// If the authority's own time is over, or the library refuses.
pub fn operator(authority: &Authority, now: Timestamp) -> Result<Pair, AuthorityError> {
    let left = Duration::try_from(authority.ends.duration_since(now)).unwrap_or_default();
    if left.is_zero() {
        return Err(AuthorityError::Ended(authority.ends));
    }
    let make = || {
        let names = vec![SanType::URI(OPERATOR.try_into()?)];
        let usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        Leaf { name: "operator", names, usages, life: OPERATOR_LIFE.min(left) }
            .pair(&authority.issuer, now)
    };
    make().map_err(AuthorityError::Issue)
}

/// What an agent's certificate says.
pub(super) fn agent(
    id: AgentId,
    now: Timestamp,
    ends: Timestamp,
) -> Result<CertificateParams, Error> {
    let names = vec![SanType::URI(id.uri().try_into()?), SanType::DnsName(id.dns().try_into()?)];
    let usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    let mut params = leaf(&format!("agent {id}"), names, usages);
    set_validity(&mut params, now, ends);
    Ok(params)
}

struct Leaf<'a> {
    name: &'a str,
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    life: Duration,
}

impl Leaf<'_> {
    fn pair(self, issuer: &Issuer<'_, KeyPair>, now: Timestamp) -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let mut params = leaf(self.name, self.names, self.usages);
        set_validity(&mut params, now, now.checked_add(self.life).unwrap_or(Timestamp::MAX));
        let certificate = params.signed_by(&key, issuer)?.pem();
        Ok(Pair { certificate, key: key.serialize_pem() })
    }
}

fn authority(now: Timestamp) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Ghost");
    // Two authorities of one name would be told apart only by a signature that does not match.
    let name = format!("Ghost control plane CA {}", uuid::Uuid::new_v4());
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, now.checked_add(CA_LIFE).unwrap_or(Timestamp::MAX));
    Ok(params)
}

fn leaf(
    name: &str,
    names: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Ghost");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = names;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(uuid::Uuid::new_v4().as_bytes()));
    params
}

/// An IP address, or else a DNS name.
fn san(name: &str) -> Result<SanType, Error> {
    match name.parse::<IpAddr>() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => Ok(SanType::DnsName(name.try_into()?)),
    }
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, ends: Timestamp) {
    let since_epoch = |at: Timestamp| {
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(at.as_second().unsigned_abs())
    };
    params.not_before = since_epoch(now.checked_sub(BACKDATED).unwrap_or(now));
    params.not_after = since_epoch(ends).max(params.not_before + DAY / 24);
}
