//! The names in a certificate.

use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The URI and DNS subject alternative names of a DER certificate, in their order; empty if it
/// has none or can't be read.
#[must_use]
pub fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate) else { return Vec::new() };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return Vec::new() };
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::URI(uri) => Some((*uri).to_owned()),
        GeneralName::DNSName(dns) => Some((*dns).to_owned()),
        _ => None,
    };
    extension.value.general_names.iter().filter_map(name).collect()
}
