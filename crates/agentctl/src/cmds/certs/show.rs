//! What a certificate file says.

use std::path::{Path, PathBuf};

use clap::Args;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;

use crate::cli::Global;
use crate::errors::{Exit, Failure};
use crate::output;

/// Options of `certs show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// A PEM file with one or more certificates.
    file: PathBuf,
}

/// What one certificate says.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    pub(super) subject: String,
    issuer: String,
    pub(super) names: Vec<String>,
    ca: bool,
    pub(super) not_before: String,
    pub(super) not_after: String,
    pub(super) valid_now: bool,
}

/// Prints each certificate of the file.
pub(super) fn run(args: &Show, global: &Global) -> Result<Exit, Failure> {
    let unfit = |why: &dyn std::fmt::Display| {
        Failure::usage(format!("{}: {why}", args.file.display()))
            .remedy("give a PEM file with a certificate, such as agent.crt")
    };
    let all = certificates(&args.file).map_err(|why| unfit(&why))?;
    if all.is_empty() {
        return Err(unfit(&"there is no certificate in it"));
    }
    let shown = all
        .iter()
        .map(|der| shown(der))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|why| unfit(&why))?;
    global.output.print(&shown, |shown| shown.iter().map(draw).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Done)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = std::fs::read(path).map_err(|error| error.to_string())?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// Reads one certificate, DER.
pub(super) fn shown(der: &[u8]) -> Result<Shown, String> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| error.to_string())?;
    let validity = certificate.validity();
    Ok(Shown {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        names: names(&certificate).map_err(|error| error.to_string())?,
        ca: certificate.is_ca(),
        not_before: date(validity.not_before.timestamp()),
        not_after: date(validity.not_after.timestamp()),
        valid_now: validity.is_valid(),
    })
}

fn names(certificate: &X509Certificate<'_>) -> Result<Vec<String>, x509_parser::error::X509Error> {
    let extension = certificate.subject_alternative_name()?;
    let names = extension.iter().flat_map(|extension| &extension.value.general_names);
    Ok(names.map(name).collect())
}

fn name(name: &GeneralName<'_>) -> String {
    match name {
        GeneralName::URI(text) | GeneralName::DNSName(text) => (*text).to_owned(),
        GeneralName::IPAddress([a, b, c, d]) => std::net::Ipv4Addr::new(*a, *b, *c, *d).to_string(),
        GeneralName::IPAddress(bytes) => <[u8; 16]>::try_from(*bytes)
            .map_or_else(|_| "?".to_owned(), |bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        other => other.to_string(),
    }
}

fn date(unix_seconds: i64) -> String {
    jiff::Timestamp::from_second(unix_seconds)
        .map_or_else(|_| unix_seconds.to_string(), |stamp| stamp.to_string())
}

fn draw(shown: &Shown) -> String {
    let now = if shown.valid_now { "" } else { ", which is not now" };
    output::fields(&[
        ("subject", shown.subject.clone()),
        ("issuer", shown.issuer.clone()),
        ("names", if shown.names.is_empty() { "-".to_owned() } else { shown.names.join(", ") }),
        ("kind", if shown.ca { "CA" } else { "end entity" }.to_owned()),
        ("valid", format!("{} to {}{now}", shown.not_before, shown.not_after)),
    ])
}
