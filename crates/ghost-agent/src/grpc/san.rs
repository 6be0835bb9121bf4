//! The names in a certificate. Invariant: a name keeps its kind, so that a DNS name spelled like
//! a URI is not taken for one.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use crate::config::ClientName;

/// The URI and DNS subject alternative names of a DER certificate, in their order; DNS names in
/// lower case, because case means nothing in them (RFC 4343). Empty if it has none or can't be
/// read.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<ClientName> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some(ClientName::Uri((*uri).to_owned())),
        GeneralName::DNSName(dns) => Some(ClientName::Dns(dns.to_ascii_lowercase())),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
