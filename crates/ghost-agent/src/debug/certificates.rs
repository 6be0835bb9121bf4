//! What proves the agent. Invariant: no byte of a key is read.

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Sheet, Sheets};
use crate::config::TlsFiles;
use crate::grpc::san;

/// `agent/certificates.txt`: subject, names and time of each certificate; of the key only whose file it is.
pub fn facts(files: &TlsFiles) -> Sheets {
    let mut text = String::new();
    for (key, path) in [("grpc.tls_cert", &files.cert), ("grpc.tls_ca", &files.ca)] {
        // Writing to a String can't fail.
        let _ = writeln!(text, "{key}: {}", path.display());
        text.push_str(&certificates(path));
    }
    let key = match std::fs::metadata(&files.key) {
        Ok(of) => format!("mode {:o}, owner {}:{}", of.mode() & 0o7777, of.uid(), of.gid()),
        Err(error) => error.to_string(),
    };
    let _ = writeln!(text, "grpc.tls_key: {}\n  {key}", files.key.display());
    Ok(vec![Sheet::new("agent/certificates.txt", text)])
}

fn certificates(path: &Path) -> String {
    let all = CertificateDer::pem_file_iter(path);
    let all = all.and_then(|all| all.map(|der| der.map(|der| certificate(&der))).collect());
    all.unwrap_or_else(|error| format!("  error: {error}\n"))
}

fn certificate(der: &[u8]) -> String {
    let subject = X509Certificate::from_der(der).map(|(_, it)| it.subject().to_string());
    let (subject, leaf) = (subject.unwrap_or_default(), san::leaf(der));
    match leaf {
        Ok(leaf) => {
            let names: Vec<_> = leaf.names.iter().map(ToString::to_string).collect();
            let (from, to) = (leaf.not_before, leaf.not_after);
            format!("  {subject}; {}; from {from} to {to}\n", names.join(", "))
        }
        Err(error) => format!("  {subject}; error: {error}\n"),
    }
}
