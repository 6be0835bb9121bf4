//! Who may reach the agent. Invariant: a TCP listener demands client certificates unless it is on
//! loopback, and an order to listen that cannot be carried out is an error, not a silence.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ghost_core::domain::is_in_vpn;

use super::model::{ClientName, ListenAddr};
use super::problem::{Origin, Problem};
use super::reader::Reader;
use super::table::{GrpcKeys, Metrics};

/// The gRPC server's listeners and whom they obey.
#[derive(Debug, Clone, PartialEq)]
pub struct Grpc {
    /// The listener for the control plane and for remote operators.
    pub tcp: TcpListener,
    /// Where key, certificate and authority are, or shall be.
    pub files: TlsFiles,
    /// The socket for agentctl on this host.
    pub unix_socket: Option<PathBuf>,
    /// The names of the certificates that are obeyed over TLS, never empty.
    pub allowed_clients: Vec<ClientName>,
}

/// The TCP listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TcpListener {
    /// TLS 1.3 with client certificates.
    Tls {
        /// Where to listen.
        address: ListenAddr,
        /// The files, which existed when the configuration was read.
        files: TlsFiles,
    },
    /// As [`Self::Tls`], as soon as the files are there: the control plane is to give them.
    Awaited {
        /// Where to listen then.
        address: ListenAddr,
        /// The files, of which at least one was absent when the configuration was read.
        files: TlsFiles,
        /// What is awaited, in one line.
        reason: String,
    },
    /// Without TLS.
    Plain {
        /// Where to listen: a loopback address; port 0 means any free one.
        address: SocketAddr,
    },
    /// None, because nobody asked for one and there are no certificates.
    Off {
        /// Cause and remedy in one line.
        reason: String,
    },
}

/// The files of TLS, all PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The agent's certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities of the clients.
    pub ca: PathBuf,
}

/// Whether the control plane will give certificates that are not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Enrolment {
    ToCome,
    Never,
}

/// Looks whether there is a file at a path.
pub(super) type Look<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

/// Holds the section's keys against each other and against the files that they name.
pub(super) fn resolve(
    keys: GrpcKeys,
    enrols: Enrolment,
    reader: &mut Reader<'_>,
    notes: &mut Vec<String>,
    look: Look<'_>,
) -> Option<Grpc> {
    let GrpcKeys {
        listen_addr,
        tls_enabled,
        tls_cert,
        tls_key,
        tls_ca,
        allowed_clients,
        unix_socket,
    } = keys;
    let files = TlsFiles { cert: tls_cert, key: tls_key, ca: tls_ca };
    let tcp = match tls_enabled {
        true => with_tls(listen_addr, files.clone(), enrols, reader, look),
        false => without_tls(listen_addr, reader),
    }?;
    match &tcp {
        TcpListener::Tls { .. } => {}
        TcpListener::Awaited { reason, .. } => notes.push(reason.clone()),
        TcpListener::Plain { address } => notes.push(format!(
            "grpc.tls_enabled is false: every user and program of this host may \
             command the agent at {address}"
        )),
        TcpListener::Off { reason } if unix_socket.is_some() => notes.push(reason.clone()),
        TcpListener::Off { reason } => {
            let text = format!("is off and so is TCP, so nobody could command the agent: {reason}");
            let origin = reader.origin("grpc", "unix_socket");
            reader.problems.push(Problem::of_key(origin, "grpc.unix_socket", text));
            return None;
        }
    }
    Some(Grpc { tcp, files, unix_socket, allowed_clients })
}

fn without_tls(address: ListenAddr, reader: &mut Reader<'_>) -> Option<TcpListener> {
    match address {
        ListenAddr::Fixed(address) if address.ip().is_loopback() => {
            return Some(TcpListener::Plain { address });
        }
        // Never in the VPN.
        ListenAddr::Auto => return Some(TcpListener::Plain { address: ListenAddr::LOOPBACK }),
        ListenAddr::Fixed(_) | ListenAddr::Tailscale { .. } => {}
    }
    let text = format!(
        "false is accepted on a loopback address only, and grpc.listen_addr is {address}; \
         set it to true, or listen on 127.0.0.1:{}",
        address.port()
    );
    let origin = reader.origin("grpc", "tls_enabled");
    reader.problems.push(Problem::of_key(origin, "grpc.tls_enabled", text));
    None
}

fn with_tls(
    address: ListenAddr,
    files: TlsFiles,
    enrols: Enrolment,
    reader: &mut Reader<'_>,
    look: Look<'_>,
) -> Option<TcpListener> {
    let named = [("tls_cert", &files.cert), ("tls_key", &files.key), ("tls_ca", &files.ca)];
    let missing: Vec<(&str, &Path, io::Error)> = named
        .into_iter()
        .filter_map(|(key, path)| look(path).err().map(|error| (key, path.as_path(), error)))
        .collect();
    if missing.is_empty() {
        return Some(TcpListener::Tls { address, files });
    }
    let absent = missing.iter().all(|(_, _, error)| error.kind() == io::ErrorKind::NotFound);
    if absent && enrols == Enrolment::ToCome {
        let names: Vec<String> =
            missing.iter().map(|(_, path, _)| path.display().to_string()).collect();
        let reason = format!(
            "the agent listens on TCP as soon as there are certificates, from the control plane or by hand; \
             missing: {}",
            names.join(", ")
        );
        return Some(TcpListener::Awaited { address, files, reason });
    }
    let all_absent = absent && missing.len() == named.len();
    let asked_for = ["listen_addr", "tls_enabled", "tls_cert", "tls_key", "tls_ca"]
        .into_iter()
        .any(|key| reader.origin("grpc", key) != Origin::Default);
    if all_absent && !asked_for {
        let folder = folder(&files.cert).display();
        let reason = format!(
            "no certificates in {folder}, so the agent does not listen on TCP; \
             make some with: agentctl certs init {folder}"
        );
        return Some(TcpListener::Off { reason });
    }
    for (key, path, error) in missing {
        let text = format!("{}: {}", path.display(), cause_and_remedy(path, &error));
        let origin = reader.origin("grpc", key);
        reader.problems.push(Problem::of_key(origin, &format!("grpc.{key}"), text));
    }
    None
}

fn cause_and_remedy(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("does not exist; make it with: agentctl certs init {}", folder(path).display())
        }
        io::ErrorKind::PermissionDenied => {
            "permission denied; run as the user of the agent, or let that user into the folder"
                .to_owned()
        }
        _ => format!("{error}; name a readable file"),
    }
}

fn folder(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Whether gRPC and HTTP would fight for one port.
pub(super) fn check_ports(grpc: &Grpc, metrics: &Metrics, reader: &mut Reader<'_>) {
    let address = match &grpc.tcp {
        TcpListener::Tls { address, .. } | TcpListener::Awaited { address, .. } => *address,
        TcpListener::Plain { address } => ListenAddr::Fixed(*address),
        TcpListener::Off { .. } => return,
    };
    let other = metrics.listen_addr;
    let same_ip = match address {
        ListenAddr::Fixed(address) => overlap(address.ip(), other.ip()),
        ListenAddr::Tailscale { .. } => is_in_vpn(other.ip()) || other.ip().is_unspecified(),
        ListenAddr::Auto => is_in_vpn(other.ip()) || overlap(ListenAddr::LOOPBACK.ip(), other.ip()),
    };
    if same_ip && address.port() == other.port() && address.port() != 0 {
        // A default is nobody's mistake: the problem belongs to the key that somebody set.
        let (origin, key) = [("metrics", "metrics.listen_addr"), ("grpc", "grpc.listen_addr")]
            .map(|(section, key)| (reader.origin(section, "listen_addr"), key))
            .into_iter()
            .find(|(origin, _)| *origin != Origin::Default)
            .unwrap_or((Origin::Default, "metrics.listen_addr"));
        let text =
            format!("gRPC on {address} and metrics on {other} want the same port; change one");
        reader.problems.push(Problem::of_key(origin, key, text));
    }
}

fn overlap(one: IpAddr, other: IpAddr) -> bool {
    one == other
        || (one.is_ipv4() == other.is_ipv4() && (one.is_unspecified() || other.is_unspecified()))
}
