//! Makes what two sides of a mutual TLS connection need to know each other.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use clap::Args;
use rcgen::SanType;
use rustls_pki_types::DnsName;
use serde::Serialize;

use super::files::{self, Existing, NewFile, Secrecy};
use super::issue::{self, Issued, Pair};
use crate::cli::Global;
use crate::errors::{Exit, Failure};

/// Options of `certs init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// Folder for ca.crt, ca.key, agent.crt, agent.key, operator.crt and operator.key; made when missing.
    dir: PathBuf,
    /// The agent's name, for spiffe://ghost/agent/NAME [default: this host's name].
    #[arg(long, value_name = "NAME", value_parser = parse_agent_name)]
    agent_name: Option<String>,
    /// A further DNS name or IP at which the agent is reached, such as its VPN address; repeatable.
    #[arg(long, value_name = "IP|DNS", value_parser = parse_san)]
    san: Vec<Name>,
    /// How long the agent's and the operator's certificates are valid; the CA is for ten years.
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u16).range(1..=3649))]
    days: u16,
    /// Replace files that are there.
    #[arg(long)]
    force: bool,
}

/// A name of the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Dns(String),
    Ip(IpAddr),
}

/// What `certs init` prints.
#[derive(Debug, Serialize)]
struct Made {
    dir: PathBuf,
    files: Vec<&'static str>,
    agent: String,
    agent_names: Vec<String>,
    operator: &'static str,
    valid_days: u16,
}

/// Writes the six files.
pub(super) fn run(args: Init, global: &Global) -> Result<Exit, Failure> {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let agent_name = args.agent_name.unwrap_or_else(|| agent_name_of(&host));
    let names = names(&host, args.san);
    let failed = |error| Failure::local(format!("cannot make the certificates: {error}"));
    let sans = names.iter().map(san).collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let issued = issue::issue(&agent_name, sans, args.days).map_err(failed)?;
    let new_files = new_files(issued);
    let existing = if args.force { Existing::Replace } else { Existing::Keep };
    files::write_all(&args.dir, &new_files, existing)?;
    let dir = std::path::absolute(&args.dir).unwrap_or(args.dir);
    let made = Made {
        dir,
        files: new_files.iter().map(|file| file.name).collect(),
        agent: issue::agent_uri(&agent_name),
        agent_names: names.iter().map(Name::shown).collect(),
        operator: issue::OPERATOR,
        valid_days: args.days,
    };
    global.output.print(&made, draw)?;
    Ok(Exit::Done)
}

/// localhost and this host's name, the loopback addresses, and what was asked for; each once.
fn names(host: &str, asked: Vec<Name>) -> Vec<Name> {
    let mut names = vec![Name::Dns("localhost".to_owned())];
    names.extend(parse_san(host));
    names.push(Name::Ip(Ipv4Addr::LOCALHOST.into()));
    names.push(Name::Ip(Ipv6Addr::LOCALHOST.into()));
    names.extend(asked);
    let mut once: Vec<Name> = Vec::with_capacity(names.len());
    for name in names {
        if !once.contains(&name) {
            once.push(name);
        }
    }
    once
}

impl Name {
    fn shown(&self) -> String {
        match self {
            Self::Dns(name) => name.clone(),
            Self::Ip(ip) => ip.to_string(),
        }
    }
}

fn san(name: &Name) -> Result<SanType, rcgen::Error> {
    Ok(match name {
        Name::Dns(name) => SanType::DnsName(name.as_str().try_into()?),
        Name::Ip(ip) => SanType::IpAddress(*ip),
    })
}

fn new_files(issued: Issued) -> Vec<NewFile> {
    let both = |pair: Pair, certificate, key, secrecy| {
        [
            NewFile { name: certificate, secrecy: Secrecy::Public, pem: pair.certificate },
            NewFile { name: key, secrecy, pem: pair.key },
        ]
    };
    let pairs = [
        both(issued.ca, "ca.crt", "ca.key", Secrecy::Private),
        both(issued.agent, "agent.crt", "agent.key", Secrecy::FolderGroup),
        both(issued.operator, "operator.crt", "operator.key", Secrecy::Private),
    ];
    pairs.into_iter().flatten().collect()
}

fn parse_san(text: &str) -> Result<Name, String> {
    if let Ok(ip) = text.parse() {
        return Ok(Name::Ip(ip));
    }
    match DnsName::try_from(text) {
        Ok(name) => Ok(Name::Dns(name.as_ref().to_ascii_lowercase())),
        Err(_) => Err("neither an IP nor a DNS name".to_owned()),
    }
}

/// One segment of a SPIFFE path (SPIFFE-ID, section 2.2), at most 63 characters.
fn parse_agent_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.len() <= 63 && !text.chars().all(|c| c == '.');
    if fits && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')) {
        return Ok(text.to_owned());
    }
    Err("1 to 63 letters, digits, '-', '_' or '.'".to_owned())
}

fn agent_name_of(host: &str) -> String {
    parse_agent_name(host).unwrap_or_else(|_| "agent".to_owned())
}

fn draw(made: &Made) -> String {
    let dir = made.dir.display();
    let host = made.agent_names.last().map_or("localhost", String::as_str);
    let host = if host.contains(':') { "localhost" } else { host };
    format!(
        "made in {dir}: {files}
  agent     {agent}, for {names}
  operator  {operator}
  valid for {days} days; ca.key can make any identity: keep it, and the operator's files, off the agent's host

The agent's config (its defaults, if the folder is /etc/ghost/certs):

  grpc:
    tls_enabled: true
    tls_ca: \"{dir}/ca.crt\"
    tls_cert: \"{dir}/agent.crt\"
    tls_key: \"{dir}/agent.key\"

Then:

  agentctl --addr {host}:9090 --certs {certs} vm list
",
        files = made.files.join(" "),
        agent = made.agent,
        names = made.agent_names.join(", "),
        operator = made.operator,
        days = made.valid_days,
        certs = quoted(&made.dir),
    )
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+@:".contains(c));
    if plain { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_is_known_by_this_host_and_by_what_was_asked_for_once() {
        let asked = vec![
            parse_san("10.64.0.7").unwrap(),
            parse_san("localhost").unwrap(),
            parse_san("PC.vpn").unwrap(),
        ];
        let shown: Vec<String> = names("my-pc", asked).iter().map(Name::shown).collect();
        assert_eq!(shown, ["localhost", "my-pc", "127.0.0.1", "::1", "10.64.0.7", "pc.vpn"]);
    }

    #[test]
    fn names_that_no_certificate_can_carry_are_refused() {
        for text in ["", "a b", "-", "https://host", "host:9090", "ü.example", "10.0.0.0/8"] {
            assert!(parse_san(text).is_err(), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(parse_agent_name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_stays_one_word_of_a_shell() {
        assert_eq!(quoted(Path::new("/etc/ghost/certs")), "/etc/ghost/certs");
        assert_eq!(quoted(Path::new("/my dir/it's")), r"'/my dir/it'\''s'");
    }
}
