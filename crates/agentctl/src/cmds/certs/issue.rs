//! Invariant: what is issued here proves exactly one identity: the CA signs and does nothing else,
//! the agent serves and calls, the operator only calls. All keys are ECDSA P-256.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, SanType,
};

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// Ten years: longer than any certificate that it signs.
const CA_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// The operator's name; one of the defaults of `grpc.allowed_clients` (design, decision 8).
pub(super) const OPERATOR: &str = "spiffe://ghost/operator";

/// A certificate and its private key, both PEM.
pub(super) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

/// All that `certs init` makes.
pub(super) struct Issued {
    pub(super) ca: Pair,
    pub(super) agent: Pair,
    pub(super) operator: Pair,
}

/// `spiffe://ghost/agent/NAME`.
pub(super) fn agent_uri(name: &str) -> String {
    format!("spiffe://ghost/agent/{name}")
}

/// Makes a CA and, valid for `days`, an agent's certificate for `names` besides its URI and an operator's.
///
/// # Errors
/// When the system has no randomness or a name is not ASCII.
pub(super) fn issue(agent_name: &str, names: Vec<SanType>, days: u16) -> Result<Issued, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let ca_key = KeyPair::generate()?;
    let ca_key_pem = ca_key.serialize_pem();
    let ca = CertifiedIssuer::self_signed(ca_params(now), ca_key)?;
    let leaf = |common_name: &str, sans, usages| -> Result<Pair, Error> {
        let key = KeyPair::generate()?;
        let certificate =
            leaf_params(common_name, sans, usages, now, days).signed_by(&key, &*ca)?;
        Ok(Pair { certificate: certificate.pem(), key: key.serialize_pem() })
    };
    let mut agent_names = vec![SanType::URI(agent_uri(agent_name).try_into()?)];
    agent_names.extend(names);
    let agent = leaf(
        agent_name,
        agent_names,
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
    )?;
    let operator = leaf(
        "operator",
        vec![SanType::URI(OPERATOR.try_into()?)],
        vec![ExtendedKeyUsagePurpose::ClientAuth],
    )?;
    Ok(Issued { ca: Pair { certificate: ca.pem(), key: ca_key_pem }, agent, operator })
}

fn ca_params(now: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Ghost");
    // Two CAs of one name would be told apart only by a signature that does not match.
    params
        .distinguished_name
        .push(DnType::CommonName, format!("Ghost development CA {}", uuid::Uuid::new_v4()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, now, CA_LIFE);
    params
}

fn leaf_params(
    common_name: &str,
    sans: Vec<SanType>,
    usages: Vec<ExtendedKeyUsagePurpose>,
    now: Duration,
    days: u16,
) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Ghost");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.subject_alt_names = sans;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = usages;
    params.use_authority_key_identifier_extension = true;
    set_validity(&mut params, now, DAY * u32::from(days));
    params
}

/// Valid from an hour ago, so that a clock that is a little behind does not refuse it.
fn set_validity(params: &mut CertificateParams, now: Duration, life: Duration) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + now.saturating_sub(HOUR);
    params.not_after = epoch + now + life;
}
