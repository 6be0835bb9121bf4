//! How an agent's certificate is doing: as it is in the files, and as a running agent shows it.
//!
//! Invariant: whatever keeps others from believing the agent is a problem, and problems are exit code 1.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use serde::Serialize;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{ASN1Time, FromDer as _};

use super::show::{self, Shown};
use crate::cli::Global;
use crate::connect;
use crate::errors::{Exit, Failure};
use crate::output;

/// Less than this is worth a warning.
const SOON: i64 = 7 * 86_400;

/// Options of `certs status`.
#[derive(Debug, Args)]
pub(crate) struct Status {
    /// Folder with agent.crt, agent.key and ca.crt.
    #[arg(default_value = "/etc/ghost/certs")]
    dir: PathBuf,
}

/// What `certs status` prints.
#[derive(Debug, Serialize)]
struct Report {
    file: PathBuf,
    agent: Shown,
    /// Negative once it is over.
    remaining_seconds: i64,
    authority: Shown,
    key: Key,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<Running>,
    problems: Vec<String>,
    warnings: Vec<String>,
}

/// Whether the key is the certificate's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Key {
    Belongs,
    BelongsToAnother,
    NotReadable,
}

/// What a running agent shows.
#[derive(Debug, Serialize)]
struct Running {
    address: String,
    certificate: Shown,
    same_as_file: bool,
}

/// Reads the folder, and looks at the agent if `--addr` is given.
pub(super) async fn run(args: &Status, global: &Global) -> Result<Exit, Failure> {
    let cert = args.dir.join("agent.crt");
    let (chain, authority) = (certificates(&cert)?, certificates(&args.dir.join("ca.crt"))?);
    let agent = described(&cert, &chain)?;
    let mut report = Report {
        remaining_seconds: remaining(&cert, &chain)?,
        authority: described(&args.dir.join("ca.crt"), &authority)?,
        key: key(&args.dir.join("agent.key"), &chain),
        running: None,
        problems: Vec::new(),
        warnings: Vec::new(),
        file: cert,
        agent,
    };
    if global.connection.addr.is_some() {
        let (target, der) = connect::look::certificate(&global.connection, global.timeout).await?;
        let certificate =
            show::shown(&der).map_err(|why| unfit(Path::new("its certificate"), &why))?;
        let same_as_file = chain.first() == Some(&der);
        report.running = Some(Running { address: target.to_string(), certificate, same_as_file });
    }
    judge(&mut report, is_signed(&chain, &authority));
    report.warnings.iter().for_each(|warning| output::remark(&format!("warning: {warning}")));
    report.problems.iter().for_each(|problem| output::remark(&format!("problem: {problem}")));
    let exit = if report.problems.is_empty() { Exit::Done } else { Exit::Failed };
    global.output.print(&report, draw)?;
    Ok(exit)
}

/// Finds what is wrong, each with its remedy.
fn judge(report: &mut Report, signed: bool) {
    let file = report.file.display();
    let (problems, warnings) = (&mut report.problems, &mut report.warnings);
    match report.remaining_seconds {
        _ if !report.agent.valid_now && report.remaining_seconds > 0 => problems.push(format!(
            "{file} is not valid before {}; compare the clocks of this host and of who made it",
            report.agent.not_before
        )),
        ..=0 => problems.push(format!(
            "{file} expired on {}; renew it: look why the control plane did not, or agentctl certs init --force",
            report.agent.not_after
        )),
        left if left < SOON => warnings.push(format!(
            "{file} expires in {}; see in the agent's log why it is not renewed",
            output::duration(left.unsigned_abs())
        )),
        _ => {}
    }
    if !report.authority.valid_now {
        problems.push(format!(
            "ca.crt beside it is valid from {} to {} only; get the authority's newer one",
            report.authority.not_before, report.authority.not_after
        ));
    }
    if !signed {
        problems.push(format!(
            "{file} is not signed for an agent by ca.crt beside it; put both there from one source"
        ));
    }
    if report.key == Key::BelongsToAnother {
        problems.push(format!(
            "agent.key beside {file} belongs to another certificate; put the pair there that was made together"
        ));
    }
    let Some(running) = &report.running else { return };
    let address = &running.address;
    if !running.certificate.valid_now {
        problems.push(format!(
            "the agent at {address} shows a certificate that is valid from {} to {} only; look for 'certificates' in its log",
            running.certificate.not_before, running.certificate.not_after
        ));
    }
    if !running.same_as_file {
        warnings.push(format!(
            "the agent at {address} shows another certificate; it looks at its files every 10 s, and its log says why it refuses them"
        ));
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let pem = std::fs::read(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            Failure::new(Exit::NotFound, format!("{} does not exist", path.display())).remedy(
                "name the agent's folder of certificates; or let it enrol, or agentctl certs init",
            )
        }
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotPermitted, format!("you may not read {}", path.display()))
                .remedy("use sudo, or join the folder's group")
        }
        _ => unfit(path, &error.to_string()),
    })?;
    let all: Vec<_> = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| unfit(path, &error.to_string()))?;
    if all.is_empty() { Err(unfit(path, "there is no certificate in it")) } else { Ok(all) }
}

fn unfit(path: &Path, why: &str) -> Failure {
    Failure::local(format!("{}: {why}", path.display()))
        .remedy("it must be PEM, as agentctl certs init and the agent write it")
}

fn described(path: &Path, chain: &[CertificateDer<'_>]) -> Result<Shown, Failure> {
    chain
        .first()
        .ok_or_else(|| "there is no certificate in it".to_owned())
        .and_then(|der| show::shown(der))
        .map_err(|why| unfit(path, &why))
}

fn remaining(path: &Path, chain: &[CertificateDer<'_>]) -> Result<i64, Failure> {
    let der = chain.first().map(|der| der.as_ref()).unwrap_or_default();
    let (_, leaf) =
        X509Certificate::from_der(der).map_err(|error| unfit(path, &error.to_string()))?;
    Ok(leaf.validity().not_after.timestamp() - ASN1Time::now().timestamp())
}

fn key(path: &Path, chain: &[CertificateDer<'static>]) -> Key {
    let Ok(pem) = std::fs::read(path) else { return Key::NotReadable };
    let Ok(key) = PrivateKeyDer::from_pem_slice(&pem) else { return Key::BelongsToAnother };
    match CertifiedKey::from_der(chain.to_vec(), key, &ring::default_provider()) {
        Ok(_) => Key::Belongs,
        Err(_) => Key::BelongsToAnother,
    }
}

/// Whether the authority signed it for an agent, leaving aside whether it is over.
fn is_signed(chain: &[CertificateDer<'_>], authority: &[CertificateDer<'static>]) -> bool {
    let [leaf, intermediates @ ..] = chain else { return false };
    let Ok((_, parsed)) = X509Certificate::from_der(leaf) else { return false };
    let began = u64::try_from(parsed.validity().not_before.timestamp()).unwrap_or_default();
    let began = UnixTime::since_unix_epoch(Duration::from_secs(began));
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authority.iter().cloned());
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    verifier.is_ok_and(|verifier| verifier.verify_client_cert(leaf, intermediates, began).is_ok())
}

fn draw(report: &Report) -> String {
    let left = match report.remaining_seconds {
        left if left > 0 => format!("{} left", output::duration(left.unsigned_abs())),
        over => format!("over for {}", output::duration(over.unsigned_abs())),
    };
    let span = |of: &Shown| format!("{} to {}", of.not_before, of.not_after);
    let key = match report.key {
        Key::Belongs => "belongs to it",
        Key::BelongsToAnother => "belongs to another certificate",
        Key::NotReadable => "not looked at: you may not read it, or it is not there",
    };
    let mut lines = vec![
        ("certificate", report.file.display().to_string()),
        ("names", report.agent.names.join(", ")),
        ("valid", format!("{}, {left}", span(&report.agent))),
        ("key", key.to_owned()),
        ("authority", format!("{}, valid {}", report.authority.subject, span(&report.authority))),
    ];
    if let Some(running) = &report.running {
        let shows =
            if running.same_as_file { "shows this certificate" } else { "shows another one" };
        let valid = span(&running.certificate);
        lines.push(("agent", format!("{} {shows}, valid {valid}", running.address)));
    }
    output::fields(&lines)
}
