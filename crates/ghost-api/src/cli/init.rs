//! Makes certificates.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use ghost_api::authority::{self, Authority, files};
use jiff::Timestamp;
use rustls_pki_types::DnsName;
use serde::Serialize;

use super::Context;
use super::failure::{Exit, Failure};

/// Options of `init`.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// An IP or DNS name at which agents will reach this control plane, such as its VPN address; repeatable.
    #[arg(long, required = true, value_name = "HOST|IP", value_parser = parse_name)]
    name: Vec<String>,
}

/// Options of `operator`.
#[derive(Debug, Args)]
pub(super) struct Operator {
    /// Folder for ca.crt, operator.crt and operator.key; made when missing.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

#[derive(Debug, Serialize)]
struct Made {
    dir: PathBuf,
    files: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
}

/// Makes the authority.
pub(super) fn run(args: Init, context: &Context) -> Result<(), Failure> {
    let made = authority::make(&args.name, Timestamp::now())
        .map_err(|error| Failure::local(format!("cannot make the certificates: {error}")))?;
    let files = files::write(&context.dir, &made).map_err(|error| unwritten(&error))?;
    let made = Made { dir: context.dir.clone(), files, names: args.name };
    context.output.print(&made, draw)
}

/// Makes another operator's certificate.
pub(super) fn operator(args: &Operator, context: &Context) -> Result<(), Failure> {
    // How long agents' certificates live does not matter here.
    let authority = Authority::load(&context.dir, Duration::ZERO);
    let authority = authority.map_err(|error| Failure::chain(Exit::Failed, &error))?;
    let pair = authority::operator(&authority, Timestamp::now())
        .map_err(|error| Failure::chain(Exit::Failed, &error))?;
    let ca = std::fs::read_to_string(context.dir.join(files::CA.0))
        .map_err(|error| Failure::local(format!("cannot read {}: {error}", files::CA.0)))?;
    let files = files::write_operator(&args.out, &pair, &ca).map_err(|error| unwritten(&error))?;
    let made = Made { dir: args.out.clone(), files, names: vec![] };
    context.output.print(&made, |made| {
        let dir = made.dir.display();
        format!(
            "made in {dir}: {}\nuse it with: agentctl --certs {dir} --addr AGENT vm list\n",
            made.files.join(" ")
        )
    })
}

fn unwritten(error: &files::FilesError) -> Failure {
    let exit = match error {
        files::FilesError::Exists(_) => Exit::Conflict,
        files::FilesError::Io { source, .. }
            if source.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Exit::NotPermitted
        }
        files::FilesError::Io { .. } => Exit::Failed,
    };
    Failure::chain(exit, error)
}

fn parse_name(text: &str) -> Result<String, String> {
    if text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    match DnsName::try_from(text) {
        Ok(name) => Ok(name.as_ref().to_ascii_lowercase()),
        Err(_) => Err("neither an IP nor a DNS name; give it without https:// and port".to_owned()),
    }
}

fn draw(made: &Made) -> String {
    format!(
        "made in {dir}: {files}
  agents reach it at {names}
  ca.key can make any identity: keep a copy of this folder in a safe place, and let nobody else read it

Then:

  ghost-api serve --dir {dir}
  ghost-api token create --ttl 1h --dir {dir}
",
        dir = made.dir.display(),
        files = made.files.join(" "),
        names = made.names.join(", "),
    )
}
