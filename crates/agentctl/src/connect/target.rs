//! Invariant: the target is decided once, the command line before the environment before the
//! default, and every connection failure says which target it was and what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::ServerName;

use super::unavailable;
use crate::cli::Connection;
use crate::errors::{Exit, Failure};
use crate::output;

/// Design, decision 23.
pub(crate) const DEFAULT_SOCKET: &str = "/run/ghost/agent.sock";
/// Port of the agent's gRPC listener (requirements, `grpc.listen_addr`).
const DEFAULT_PORT: u16 = 9090;
const IS_IT_RUNNING: &str = "is ghost-agent running? systemctl start ghost-agent";

/// Where the agent listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// The local agent's unix socket.
    Socket(PathBuf),
    /// A remote agent, over mutual TLS.
    Remote(Remote),
}

/// `host:port` and the name that the agent's certificate must carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remote {
    /// DNS name or IP, without brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) name: ServerName<'static>,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Remote(Remote { host, port, .. }) if host.contains(':') => {
                write!(f, "[{host}]:{port}")
            }
            Self::Remote(Remote { host, port, .. }) => write!(f, "{host}:{port}"),
        }
    }
}

impl Target {
    /// From the options, else from `env`, else the default socket.
    ///
    /// # Errors
    /// Exit 2 when both ways are asked for at once or an address cannot be read.
    pub(crate) fn choose(
        options: &Connection,
        env: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, Failure> {
        let from_env = |name| env(name).filter(|value| !value.is_empty());
        match (&options.socket, &options.addr) {
            (Some(_), Some(_)) => Err(Failure::usage("--socket and --addr contradict each other")
                .remedy("give one of them")),
            (Some(path), None) => Ok(Self::Socket(path.clone())),
            (None, Some(addr)) => Self::remote(addr, options.server_name.as_deref()),
            (None, None) => match (from_env("AGENTCTL_ADDR"), from_env("GHOST_AGENT_SOCKET")) {
                (Some(addr), _) => Self::remote(&addr, options.server_name.as_deref()),
                (None, Some(path)) => Ok(Self::Socket(path.into())),
                (None, None) => Ok(Self::Socket(DEFAULT_SOCKET.into())),
            },
        }
    }

    fn remote(addr: &str, name: Option<&str>) -> Result<Self, Failure> {
        let bad = |what: &str| {
            Failure::usage(format!("{what} in the address '{addr}'"))
                .remedy("give HOST:PORT, such as 10.64.0.7:9090")
        };
        let (host, port) = match addr.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(|| bad("a missing ']'"))?;
                (host, rest.strip_prefix(':'))
            }
            // More than one colon: a bare IPv6 address.
            None => match addr.split_once(':') {
                Some((host, port)) if !port.contains(':') => (host, Some(port)),
                Some(_) | None => (addr, None),
            },
        };
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| bad("no port from 1 to 65535"))?,
            None => DEFAULT_PORT,
        };
        let wanted = name.unwrap_or(host).to_owned();
        let name = ServerName::try_from(wanted).map_err(|_| bad("neither a DNS name nor an IP"))?;
        Ok(Self::Remote(Remote { host: host.to_owned(), port, name }))
    }

    /// The connection was not made.
    pub(crate) fn refused(&self, error: &io::Error) -> Failure {
        match (self, error.kind()) {
            (Self::Socket(path), io::ErrorKind::NotFound) => {
                unavailable(format!("there is no socket {}", path.display()), IS_IT_RUNNING)
            }
            (Self::Socket(path), io::ErrorKind::ConnectionRefused) => {
                unavailable(format!("nobody listens on {}", path.display()), IS_IT_RUNNING)
            }
            (Self::Socket(path), io::ErrorKind::PermissionDenied) => Failure::new(
                Exit::NotPermitted,
                format!("you may not open {}", path.display()),
            )
            .remedy("add yourself to group ghost: sudo usermod -aG ghost $USER, then log in again"),
            (Self::Socket(path), _) => {
                unavailable(format!("cannot connect to {}: {error}", path.display()), IS_IT_RUNNING)
            }
            (Self::Remote(_), io::ErrorKind::ConnectionRefused) => unavailable(
                format!("{self} refused the connection"),
                "is ghost-agent running there, and is this its grpc.listen_addr?",
            ),
            (Self::Remote(remote), _) if remote.is_unresolved(error) => unavailable(
                format!("cannot resolve {}: {error}", remote.host),
                "check the name, or give the agent's IP",
            ),
            (Self::Remote(_), _) => unavailable(
                format!("cannot reach {self}: {error}"),
                "check the network and the VPN (tailscale status)",
            ),
        }
    }

    /// The connection was neither made nor refused within `limit`.
    pub(crate) fn silent(&self, limit: Duration) -> Failure {
        let message = format!("{self} did not answer in {}", output::duration(limit.as_secs()));
        match self {
            Self::Socket(_) => unavailable(
                message,
                "look at journalctl -u ghost-agent, or restart it: systemctl restart ghost-agent",
            ),
            Self::Remote(_) => unavailable(
                message,
                "check the network and the VPN (tailscale status), and a firewall on the way",
            ),
        }
    }
}

impl Remote {
    /// The standard library gives getaddrinfo's failures no kind and no number.
    fn is_unresolved(&self, error: &io::Error) -> bool {
        error.raw_os_error().is_none() && self.host.parse::<std::net::IpAddr>().is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(socket: Option<&str>, addr: Option<&str>) -> Connection {
        Connection {
            socket: socket.map(PathBuf::from),
            addr: addr.map(str::to_owned),
            certs: None,
            ca: None,
            cert: None,
            key: None,
            server_name: None,
        }
    }

    #[test]
    fn the_command_line_goes_before_the_environment_before_the_default() {
        let env = |name: &str| {
            Some(if name == "AGENTCTL_ADDR" { "env.host" } else { "/env.sock" }.to_owned())
        };
        let socket_env =
            |name: &str| (name == "GHOST_AGENT_SOCKET").then(|| "/env.sock".to_owned());
        for (socket, addr, chosen) in [
            (Some("/a.sock"), None, "/a.sock"),
            (None, Some("h:1"), "h:1"),
            (None, None, "env.host:9090"),
        ] {
            assert_eq!(Target::choose(&options(socket, addr), env).unwrap().to_string(), chosen);
        }
        assert_eq!(
            Target::choose(&options(None, None), socket_env).unwrap().to_string(),
            "/env.sock"
        );
        assert_eq!(
            Target::choose(&options(None, None), |_| None).unwrap().to_string(),
            DEFAULT_SOCKET
        );
        assert_eq!(
            Target::choose(&options(None, None), |_| Some(String::new())).unwrap().to_string(),
            DEFAULT_SOCKET
        );
        assert_eq!(
            Target::choose(&options(Some("/a"), Some("b")), env).unwrap_err().exit,
            Exit::Usage
        );
    }

    #[test]
    fn addresses_have_a_host_and_perhaps_a_port() {
        for (addr, shown) in [
            ("10.64.0.7", "10.64.0.7:9090"),
            ("10.64.0.7:1", "10.64.0.7:1"),
            ("pc.vpn:9443", "pc.vpn:9443"),
            ("::1", "[::1]:9090"),
            ("[::1]", "[::1]:9090"),
            ("[fd7a::1]:80", "[fd7a::1]:80"),
        ] {
            assert_eq!(Target::remote(addr, None).unwrap().to_string(), shown);
        }
        for addr in [
            "",
            ":9090",
            "host:",
            "host:0",
            "host:65536",
            "host:http",
            "[::1",
            "a b",
            "https://host",
        ] {
            assert_eq!(Target::remote(addr, None).unwrap_err().exit, Exit::Usage, "{addr}");
        }
    }

    #[test]
    fn each_refusal_has_its_own_remedy() {
        let socket = Target::Socket("/s".into());
        let remote = Target::remote("pc", None).unwrap();
        for (target, error, exit, word) in [
            (&socket, io::ErrorKind::NotFound.into(), Exit::Unavailable, "systemctl start"),
            (
                &socket,
                io::ErrorKind::ConnectionRefused.into(),
                Exit::Unavailable,
                "systemctl start",
            ),
            (
                &socket,
                io::ErrorKind::PermissionDenied.into(),
                Exit::NotPermitted,
                "usermod -aG ghost",
            ),
            (&remote, io::Error::from_raw_os_error(111), Exit::Unavailable, "grpc.listen_addr"),
            (&remote, io::Error::from_raw_os_error(113), Exit::Unavailable, "tailscale"),
            (&remote, io::Error::other("failed to lookup"), Exit::Unavailable, "check the name"),
        ] {
            let failure = target.refused(&error);
            assert_eq!(failure.exit, exit, "{error}");
            assert!(
                failure.remedy.as_deref().is_some_and(|remedy| remedy.contains(word)),
                "{failure:?}"
            );
        }
    }
}
