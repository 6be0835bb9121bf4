//! Who to talk to, where to listen, whom to obey. Invariant: no secret hides in an address, and
//! the hypervisor is this host's own.

use std::net::SocketAddr;

use url::{Host, Url};

use super::{Raw, Rule, Scalar, Shape, Style, quoted};
use crate::config::model::{ClientName, LibvirtUri, ListenAddr};

/// An IP address and a port.
pub(in crate::config) fn socket_address() -> Rule<SocketAddr> {
    Rule::text("IP:PORT or [IPv6]:PORT, port 0 for any free one", socket)
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        if let Some(port) = text.strip_prefix(':') {
            return format!("{} has no address; write 0.0.0.0:{port} for all", quoted(text));
        }
        if let Some(port) = text.strip_prefix("localhost:") {
            return format!(
                "{} is a name, not an IP address; write 127.0.0.1:{port}",
                quoted(text)
            );
        }
        format!("{} is not an IP address with a port", quoted(text))
    })
}

/// An address, or this host's in the VPN.
pub(in crate::config) fn listen_address() -> Rule<ListenAddr> {
    const WORDS: &str = "IP:PORT or [IPv6]:PORT, port 0 for any free one; tailscale:PORT; auto";
    Rule::text(WORDS, |text| {
        if text == "auto" {
            return Ok(ListenAddr::Auto);
        }
        let Some(port) = text.strip_prefix("tailscale:") else {
            return socket(text).map(ListenAddr::Fixed);
        };
        let digits = port.bytes().all(|b| b.is_ascii_digit());
        match port.parse() {
            // A port that changes with each address would be of use to nobody.
            Ok(port @ 1..) if digits => Ok(ListenAddr::Tailscale { port }),
            Ok(_) | Err(_) => Err(format!("{} has no port from 1 to 65535", quoted(text))),
        }
    })
}

/// The Ghost API's address: `https`, a host and a port.
///
/// What is refused is not shown: it may contain a password.
pub(in crate::config) fn api_url() -> Rule<Url> {
    Rule::text("https://HOST[:PORT]", |text| {
        let url = Url::parse(text).map_err(|e| format!("is not a URL: {e}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(
                "contains a user or a password; the agent's secret is GHOST_API_KEY".to_owned()
            );
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("contains ? or #".to_owned());
        }
        match url.scheme() {
            "https" if matches!(url.path(), "" | "/") => Ok(url),
            "https" => Err("has a path, and gRPC knows none".to_owned()),
            "http" => {
                Err("http:// would send everything in the clear, and prove nobody; write https://"
                    .to_owned())
            }
            scheme => Err(format!("begins with {}", quoted(scheme))),
        }
    })
}

/// Where a collector of OpenTelemetry listens: `http`, a host and a port.
///
/// What is refused is not shown: it may contain a password.
pub(in crate::config) fn collector() -> Rule<Url> {
    Rule::text("http://HOST:PORT", |text| {
        let url = Url::parse(text).map_err(|e| format!("is not a URL: {e}"))?;
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none()
            && matches!(url.path(), "" | "/");
        match url.scheme() {
            "http" if plain && url.host().is_some() && url.port().is_some_and(|port| port != 0) => {
                Ok(url)
            }
            "http" => Err("is more, or less, than a host and a port".to_owned()),
            "https" => {
                Err("https:// is not spoken here; write http:// of a collector on this host, which may pass it on"
                    .to_owned())
            }
            scheme => Err(format!("begins with {}", quoted(scheme))),
        }
    })
}

/// Where others reach the agent.
pub(in crate::config) fn host_and_port() -> Rule<String> {
    Rule::text("HOST:PORT or [IPv6]:PORT, as others reach it", |text| {
        let parts = Url::parse(&format!("https://{text}/")).ok().filter(|url| {
            let port = text.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
            port.is_some_and(|port| port != 0) && url.username().is_empty() && url.path() == "/"
        });
        let unreachable = |url: &Url| match url.host() {
            Some(Host::Ipv4(ip)) => ip.is_unspecified(),
            Some(Host::Ipv6(ip)) => ip.is_unspecified(),
            Some(Host::Domain(_)) => false,
            None => true,
        };
        match parts {
            Some(url) if !unreachable(&url) => Ok(text.to_owned()),
            Some(_) => Err(format!("{} is no address that others can reach", quoted(text))),
            None => Err(format!("{} is not a host with a port", quoted(text))),
        }
    })
}

/// A libvirt connection on this host, whose resources the agent measures.
pub(in crate::config) fn libvirt_uri() -> Rule<LibvirtUri> {
    Rule::text("a local libvirt URI, such as qemu:///system", |text| {
        let local = text.split_once("://").is_some_and(|(scheme, rest)| {
            matches!(scheme, "qemu" | "qemu+unix" | "test")
                && rest.starts_with('/')
                && rest.len() > 1
        });
        if local && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(LibvirtUri(text.to_owned()))
        } else {
            Err(format!("{} is not a local hypervisor", quoted(text)))
        }
    })
}

/// The clients that may command: URI or DNS names of their certificates.
pub(in crate::config) fn clients() -> Rule<Vec<ClientName>> {
    const MOST: usize = 64;
    let parse = |raw: &Raw| {
        let names = match raw {
            Raw::Many(items) => {
                items.iter().map(|item| client(&item.text)).collect::<Result<_, _>>()?
            }
            Raw::One(Scalar { text, style: Style::Flat }) => flat(text)?,
            Raw::One(Scalar { text, style: Style::Plain | Style::Quoted }) => {
                return Err(format!(
                    "is one value, where a list is expected; write [{}]",
                    quoted(text)
                ));
            }
        };
        match names {
            names if names.is_empty() => Err("names nobody".to_owned()),
            names if names.len() > MOST => Err(format!("has {} names", names.len())),
            names => Ok(names),
        }
    };
    Rule {
        allowed: format!("a list of 1 to {MOST} URIs or DNS names, matched exactly").into(),
        shape: Shape::Many,
        parse: Box::new(parse),
    }
}

fn flat(text: &str) -> Result<Vec<ClientName>, String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(client).collect()
}

fn client(text: &str) -> Result<ClientName, String> {
    let refused = |why: &str| Err(format!("{} {why}", quoted(text)));
    if text.contains('*') {
        return refused("has a wildcard, and names are matched exactly");
    }
    if text.contains("://") {
        let fits = text.bytes().all(|b| b.is_ascii_graphic()) && Url::parse(text).is_ok();
        return if fits { Ok(ClientName::Uri(text.to_owned())) } else { refused("is not a URI") };
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if text.len() <= 253 && text.split('.').all(is_label) {
        Ok(ClientName::Dns(text.to_ascii_lowercase()))
    } else {
        refused("is neither a URI nor a DNS name")
    }
}
