//! What may be certified. Invariant: an [`Accepted`] request is signed by its own key, of a kind we
//! trust, and asks for one name only: the URI of the agent that it came from. Whatever else it asks
//! for is refused, so that nobody believes it was granted.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer as _;
use x509_parser::public_key::PublicKey;
use x509_parser::x509;

use super::agent::AgentId;
use super::token::Hash;

/// Longest request: one with an RSA key of 4096 bits has about 1.6 KiB.
const MOST_BYTES: usize = 8 * 1024;
/// What RSA keys may have, in bits: fewer are weak (NIST SP 800-57), more make the check slow.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrFault {
    /// It can't be read.
    #[error("the certificate signing request is not PKCS #10 in DER")]
    Garbage,
    /// It is not signed by the key that it holds.
    #[error("the certificate signing request is not signed by its own key")]
    Signature,
    /// Its key is of another kind.
    #[error(
        "the certificate signing request's key must be EC P-256, EC P-384, Ed25519, or RSA of 2048 to 4096 bits"
    )]
    Key,
    /// It names somebody else, nobody, or more than one.
    #[error("the certificate signing request must have exactly one subjectAltName, the URI {0}")]
    Names(String),
    /// It asks for something besides its name.
    #[error(
        "the certificate signing request asks for more than a name ({0}); it must ask for the subjectAltName only"
    )]
    More(String),
}

/// What may be certified.
#[derive(Debug)]
pub struct Accepted {
    /// The key.
    pub public_key: SubjectPublicKeyInfo,
    /// Its digest.
    pub digest: Hash,
}

/// Looks at the request of an agent.
///
/// # Errors
/// See [`CsrFault`].
pub fn accept(der: &[u8], agent: AgentId) -> Result<Accepted, CsrFault> {
    if der.len() > MOST_BYTES {
        return Err(CsrFault::Garbage);
    }
    let (rest, request) = X509CertificationRequest::from_der(der).map_err(|_| CsrFault::Garbage)?;
    if !rest.is_empty() {
        return Err(CsrFault::Garbage);
    }
    let spki = &request.certification_request_info.subject_pki;
    ensure_known_key(spki)?;
    request.verify_signature().map_err(|_| CsrFault::Signature)?;
    ensure_one_name(&request, agent)?;
    let public_key = SubjectPublicKeyInfo::from_der(spki.raw).map_err(|_| CsrFault::Key)?;
    Ok(Accepted { public_key, digest: Hash::of(spki.raw) })
}

fn ensure_known_key(spki: &x509::SubjectPublicKeyInfo<'_>) -> Result<(), CsrFault> {
    let algorithm = &spki.algorithm;
    let known = if algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = algorithm.parameters.as_ref().and_then(|any| any.as_oid().ok());
        curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384)
    } else if algorithm.algorithm == OID_PKCS1_RSAENCRYPTION {
        matches!(spki.parsed(), Ok(PublicKey::RSA(key)) if RSA_BITS.contains(&key.key_size()))
    } else {
        algorithm.algorithm == OID_SIG_ED25519
    };
    known.then_some(()).ok_or(CsrFault::Key)
}

fn ensure_one_name(request: &X509CertificationRequest<'_>, agent: AgentId) -> Result<(), CsrFault> {
    let mut names = 0;
    for attribute in request.certification_request_info.attributes() {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            return Err(CsrFault::More(format!("attribute {}", attribute.oid)));
        };
        for extension in &asked.extensions {
            let ParsedExtension::SubjectAlternativeName(san) = extension.parsed_extension() else {
                return Err(CsrFault::More(format!("extension {}", extension.oid)));
            };
            for name in &san.general_names {
                names += 1;
                if !matches!(name, GeneralName::URI(uri) if *uri == agent.uri()) {
                    return Err(CsrFault::Names(agent.uri()));
                }
            }
        }
    }
    (names == 1).then_some(()).ok_or_else(|| CsrFault::Names(agent.uri()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose, SanType,
    };

    const ID: &str = "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";

    fn id() -> AgentId {
        ID.parse().unwrap()
    }

    fn uri(uri: &str) -> SanType {
        SanType::URI(uri.try_into().unwrap())
    }

    fn csr(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![uri(&id().uri())];
        change(&mut params);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn fault(change: impl FnOnce(&mut CertificateParams)) -> CsrFault {
        accept(&csr(&KeyPair::generate().unwrap(), change), id()).unwrap_err()
    }

    #[test]
    fn each_kind_of_key_that_we_trust_is_accepted() {
        for kind in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let key = KeyPair::generate_for(kind).unwrap();
            let accepted = accept(&csr(&key, |_| ()), id()).unwrap();
            let raw = rcgen::PublicKeyData::der_bytes(&accepted.public_key).to_vec();
            assert_eq!(raw, rcgen::PublicKeyData::der_bytes(&key));
        }
    }

    /// Requests of our own for [`ID`], made by OpenSSL: `openssl req -new -newkey rsa:2048 -nodes -subj /CN=x -addext
    /// subjectAltName=URI:… -outform DER`; the private keys were thrown away.
    macro_rules! by_openssl {
        ($name:literal) => {
            accept(include_bytes!(concat!("../../tests/requests/", $name, ".der")), id())
        };
    }

    #[test]
    fn requests_made_by_openssl_are_understood_and_weak_keys_refused() {
        for accepted in [by_openssl!("rsa-2048"), by_openssl!("rsa-4096"), by_openssl!("p256")] {
            accepted.unwrap();
        }
        for refused in [by_openssl!("rsa-1024"), by_openssl!("p521")] {
            assert_eq!(refused.unwrap_err(), CsrFault::Key);
        }
    }

    #[test]
    fn another_agents_name_no_name_and_two_names_are_refused() {
        let other = "spiffe://ghost/agent/1b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55";
        for names in [
            vec![],
            vec![uri(other)],
            vec![uri("spiffe://ghost/control-plane")],
            vec![uri(&id().uri()), uri(other)],
            vec![uri(&id().uri()), uri(&id().uri())],
            vec![uri(&id().uri()), SanType::DnsName("localhost".try_into().unwrap())],
            vec![SanType::DnsName(id().dns().try_into().unwrap())],
            vec![uri(&id().uri().to_uppercase())],
        ] {
            let shown = format!("{names:?}");
            let fault = fault(|params| params.subject_alt_names = names);
            assert_eq!(fault, CsrFault::Names(id().uri()), "{shown}");
        }
    }

    #[test]
    fn whatever_else_is_asked_for_is_refused() {
        let more = |change: fn(&mut CertificateParams)| fault(change);
        for fault in [
            more(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained)),
            more(|params| params.is_ca = IsCa::ExplicitNoCa),
            more(|params| params.key_usages = vec![KeyUsagePurpose::KeyCertSign]),
            more(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]),
        ] {
            assert!(matches!(fault, CsrFault::More(_)), "{fault:?}");
        }
    }

    #[test]
    fn a_request_with_a_forged_signature_or_something_behind_it_is_refused() {
        let mut der = csr(&KeyPair::generate().unwrap(), |_| ());
        let last = der.len() - 1;
        der[last] ^= 1;
        assert_eq!(accept(&der, id()).unwrap_err(), CsrFault::Signature);
        let mut der = csr(&KeyPair::generate().unwrap(), |_| ());
        der.push(0);
        assert_eq!(accept(&der, id()).unwrap_err(), CsrFault::Garbage);
        assert_eq!(accept(&vec![0x30; MOST_BYTES + 1], id()).unwrap_err(), CsrFault::Garbage);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_changed_byte_is_refused_or_changes_nothing_that_is_certified(
            at in 0_usize..400, byte: u8, bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            prop_assert!(accept(&bytes, id()).is_err());
            let mut der = csr(&KeyPair::generate().unwrap(), |_| ());
            let whole = accept(&der, id()).unwrap();
            let at = at % der.len();
            der[at] = byte;
            // The frame around the signed part may be spelled in more than one way.
            if let Ok(same) = accept(&der, id()) {
                prop_assert_eq!(same.digest, whole.digest);
            }
        }
    }
}
