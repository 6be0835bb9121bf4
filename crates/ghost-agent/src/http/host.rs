//! Whom a request is for. Invariant: a name that somebody else's DNS may point to this host is not taken for it.

use std::net::{IpAddr, SocketAddr};

/// The hosts that are answered for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hosts {
    /// All: under which names others know this host is not known here.
    Any,
    /// This host, by its loopback names, or that address.
    Loopback(IpAddr),
}

impl Hosts {
    /// Of a listener at that address.
    pub(super) fn of_listener(address: SocketAddr) -> Self {
        match address.ip().is_loopback() {
            true => Self::Loopback(address.ip()),
            false => Self::Any,
        }
    }

    /// Whether `host`, which is `NAME` or `NAME:PORT` (RFC 9110, 7.2), is one of them.
    pub(super) fn include(self, host: &str) -> bool {
        let Self::Loopback(own) = self else { return true };
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            Some(_) | None => host,
        };
        if name.eq_ignore_ascii_case("localhost") {
            return true;
        }
        let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
        let address: Option<IpAddr> = match inner {
            Some(inner) => inner.parse().ok().filter(IpAddr::is_ipv6),
            None => name.parse().ok().filter(IpAddr::is_ipv4),
        };
        let loopback = |address: IpAddr| {
            address == own || ["127.0.0.1", "::1"].contains(&address.to_string().as_str())
        };
        address.is_some_and(loopback)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_names_that_mean_this_host_pass() {
        let hosts = Hosts::of_listener("127.0.0.7:9091".parse().unwrap());
        for own in [
            "localhost",
            "LocalHost:9091",
            "127.0.0.1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:9091",
            "127.0.0.7:9091",
        ] {
            assert!(hosts.include(own), "{own}");
        }
        for other in [
            "",
            "evil.example",
            "evil.example:9091",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.8",
            "::1",
            "[127.0.0.1]",
            "localhost:9091x",
            "0.0.0.0",
        ] {
            assert!(!hosts.include(other), "{other}");
        }
    }

    #[test]
    fn elsewhere_every_name_passes() {
        let hosts = Hosts::of_listener("0.0.0.0:9091".parse().unwrap());
        assert!(hosts.include("pc.vpn.example:9091"));
    }
}
