//! What a certificate says. Invariant: a name keeps its kind, so that a DNS name spelled like a URI is
//! not taken for one.

use jiff::Timestamp;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::ClientName;

/// Names and validity of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Its URI and DNS subject alternative names, in their order; DNS names in lower case, because case
    /// means nothing in them (RFC 4343).
    pub names: Vec<ClientName>,
    /// When it begins to be valid.
    pub not_before: Timestamp,
    /// The last second in which it is valid.
    pub not_after: Timestamp,
}

/// Why a certificate can't be understood.
#[derive(Debug, thiserror::Error)]
pub enum LeafError {
    /// It is not X.509.
    #[error("a certificate can't be parsed")]
    Garbage(#[from] x509_parser::error::X509Error),
    /// It ends or begins outside of the years that can be told.
    #[error("a certificate's validity is no time")]
    Time(#[from] jiff::Error),
}

/// Reads a DER certificate. Names that can't be read are none.
///
/// # Errors
/// See [`LeafError`].
pub fn leaf(der: &[u8]) -> Result<Leaf, LeafError> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| match error {
        x509_parser::nom::Err::Error(error) | x509_parser::nom::Err::Failure(error) => error,
        x509_parser::nom::Err::Incomplete(_) => x509_parser::error::X509Error::InvalidCertificate,
    })?;
    let validity = certificate.validity();
    Ok(Leaf {
        names: names(&certificate),
        not_before: Timestamp::from_second(validity.not_before.timestamp())?,
        not_after: Timestamp::from_second(validity.not_after.timestamp())?,
    })
}

fn names(certificate: &X509Certificate<'_>) -> Vec<ClientName> {
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(ClientName::Uri((*uri).to_owned())),
        GeneralName::DNSName(dns) => Some(ClientName::Dns(dns.to_ascii_lowercase())),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
