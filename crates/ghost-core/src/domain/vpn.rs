//! The VPN (Headscale or Tailscale). Invariant: an address counts as the VPN's only if it is in the ranges
//! that Tailscale gives addresses from, whatever the VPN's client says.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use jiff::{SignedDuration, Timestamp};

use super::error::{AppError, ErrorKind};

/// How long before a key's end it is worth a word.
const KEY_WARNING: SignedDuration = SignedDuration::from_hours(3 * 24);

/// What the VPN's client is doing (`BackendState` of Tailscale's `ipn`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VpnState {
    /// There is none on this host, or it was never started.
    NotInstalled,
    /// The owner switched it off.
    Stopped,
    /// It belongs to no network yet, or its key has ended.
    NeedsLogin,
    /// The network's administrator has to admit this host first.
    NeedsApproval,
    /// It is coming up.
    Starting,
    /// It is up.
    Running,
}

/// What is known of the VPN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpnStatus {
    /// What its client is doing.
    pub state: VpnState,
    /// This host's addresses in it, as the client gives them.
    pub addresses: Vec<IpAddr>,
    /// This host's name in it, if it has one.
    pub host_name: Option<String>,
    /// This host's full name in its DNS (MagicDNS), without the last dot.
    pub dns_name: Option<String>,
    /// When this host has to log in again, if ever.
    pub key_expiry: Option<Timestamp>,
    /// How many others are in it; `None` if they are too many to ask for.
    pub peers: Option<usize>,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VpnFinding {
    /// What, in one line.
    pub reason: String,
    /// What to do about it, in the imperative.
    pub remedy: &'static str,
}

impl fmt::Display for VpnFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.reason, self.remedy)
    }
}

impl VpnStatus {
    /// Of a host without the VPN's client, or with one that does nothing.
    #[must_use]
    pub const fn without_network(state: VpnState) -> Self {
        Self {
            state,
            addresses: Vec::new(),
            host_name: None,
            dns_name: None,
            key_expiry: None,
            peers: None,
        }
    }

    /// This host's address in the VPN, IPv4 before IPv6; none unless the VPN is up.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self.state {
            VpnState::Running => {
                let own = || self.addresses.iter().copied().filter(|address| is_in_vpn(*address));
                own().find(IpAddr::is_ipv4).or_else(|| own().next())
            }
            VpnState::NotInstalled
            | VpnState::Stopped
            | VpnState::NeedsLogin
            | VpnState::NeedsApproval
            | VpnState::Starting => None,
        }
    }

    /// What is wrong with it at `now`, the worst first; nothing if all is well.
    #[must_use]
    pub fn findings(&self, now: Timestamp) -> Vec<VpnFinding> {
        let finding = |reason: &str, remedy| vec![VpnFinding { reason: reason.to_owned(), remedy }];
        match self.state {
            VpnState::NotInstalled => finding(
                "the VPN is not there: Tailscale is not installed, or tailscaled was never started",
                "install it, or: systemctl enable --now tailscaled; then: tailscale up --login-server URL",
            ),
            VpnState::Stopped => finding("the VPN is switched off", "switch it on: tailscale up"),
            VpnState::NeedsLogin => finding(
                "the VPN needs a login",
                "log in: tailscale up --login-server URL --auth-key KEY",
            ),
            VpnState::NeedsApproval => finding(
                "the VPN's administrator has not admitted this host yet",
                "have it approved in Headscale or Tailscale's console",
            ),
            VpnState::Starting => {
                finding("the VPN is coming up", "wait; if it stays so: journalctl -u tailscaled")
            }
            VpnState::Running => self.findings_while_up(now),
        }
    }

    fn findings_while_up(&self, now: Timestamp) -> Vec<VpnFinding> {
        let mut findings = Vec::new();
        if self.address().is_none() {
            findings.push(VpnFinding {
                reason: "the VPN is up, but gave this host no address of 100.64.0.0/10 or fd7a:115c:a1e0::/48"
                    .to_owned(),
                remedy: "look at tailscale status, and at prefixes in Headscale's configuration",
            });
        }
        if let Some(end) = self.key_expiry {
            let remedy = "log in again: tailscale up --force-reauth; or switch the key's expiry off in Headscale";
            let left = end.duration_since(now);
            let reason = match left {
                left if left <= SignedDuration::ZERO => format!("the VPN's key expired at {end}"),
                left if left < KEY_WARNING => {
                    format!("the VPN's key expires at {end}, in {} h", left.as_hours())
                }
                _ => return findings,
            };
            findings.push(VpnFinding { reason, remedy });
        }
        findings
    }
}

/// Whether an address is one of the VPN's: 100.64.0.0/10 (RFC 6598, which Tailscale uses) or
/// fd7a:115c:a1e0::/48 (Tailscale's own prefix).
#[must_use]
pub fn is_in_vpn(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.to_bits() >> 22 == Ipv4Addr::new(100, 64, 0, 0).to_bits() >> 22,
        IpAddr::V6(v6) => {
            v6.to_bits() >> 80
                == Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, 0).to_bits() >> 80
        }
    }
}

/// Where the control plane may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApiReach {
    /// In the VPN, or on this host.
    VpnOnly,
    /// Anywhere.
    Anywhere,
}

impl ApiReach {
    /// Those of the addresses that a host name has at which it may be talked to; never empty.
    ///
    /// # Errors
    /// `NETWORK_ERROR` if there is none: then nothing may be sent there.
    pub fn permitted(self, host: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, AppError> {
        let may = |address: &IpAddr| match self {
            Self::VpnOnly => is_in_vpn(*address) || address.to_canonical().is_loopback(),
            Self::Anywhere => true,
        };
        let permitted: Vec<IpAddr> = addresses.iter().copied().filter(may).collect();
        if !permitted.is_empty() {
            return Ok(permitted);
        }
        let error = match addresses {
            [] => AppError::new(ErrorKind::NetworkUnavailable, format!("{host} has no address"))
                .remedy("look at agent.api_url, and whether the VPN's DNS knows the name: tailscale dns status"),
            [first, ..] => AppError::new(
                ErrorKind::NetworkUnavailable,
                format!("the control plane {host} is at {first}, which is not in the VPN"),
            )
            .remedy("give its name or address in the VPN as agent.api_url; or set vpn.required_for_api to false"),
        };
        Err(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn up(addresses: &[&str]) -> VpnStatus {
        let addresses = addresses.iter().map(|text| ip(text)).collect();
        VpnStatus { addresses, ..VpnStatus::without_network(VpnState::Running) }
    }

    #[test]
    fn the_vpns_ranges_end_where_they_end() {
        for inside in ["100.64.0.0", "100.127.255.255", "fd7a:115c:a1e0::1", "::ffff:100.64.0.1"] {
            assert!(is_in_vpn(ip(inside)), "{inside}");
        }
        for outside in ["100.63.255.255", "100.128.0.0", "192.0.2.1", "fd7a:115c:a1e1::", "::1"] {
            assert!(!is_in_vpn(ip(outside)), "{outside}");
        }
    }

    #[test]
    fn the_address_is_the_vpns_ipv4_before_its_ipv6_and_no_other() {
        let both = up(&["fd7a:115c:a1e0::7", "192.0.2.7", "100.64.0.7"]);
        assert_eq!(both.address(), Some(ip("100.64.0.7")));
        assert_eq!(up(&["fd7a:115c:a1e0::7"]).address(), Some(ip("fd7a:115c:a1e0::7")));
        assert_eq!(up(&["192.0.2.7"]).address(), None);
        let states = [VpnState::Stopped, VpnState::NeedsLogin, VpnState::Starting];
        for state in states {
            assert_eq!(VpnStatus { state, ..both.clone() }.address(), None, "{state:?}");
        }
    }

    #[test]
    fn each_state_but_running_is_a_finding_with_a_remedy() {
        for (state, word) in [
            (VpnState::NotInstalled, "tailscaled"),
            (VpnState::Stopped, "tailscale up"),
            (VpnState::NeedsLogin, "--auth-key"),
            (VpnState::NeedsApproval, "approved"),
            (VpnState::Starting, "wait"),
        ] {
            let findings = VpnStatus::without_network(state).findings(NOW);
            assert_eq!(findings.len(), 1, "{state:?}");
            assert!(findings[0].remedy.contains(word), "{state:?}: {}", findings[0]);
        }
        assert_eq!(up(&["100.64.0.7"]).findings(NOW), []);
    }

    #[test]
    fn a_vpn_without_an_address_of_its_own_is_a_finding() {
        let findings = up(&["10.0.0.1"]).findings(NOW);
        assert!(findings[0].reason.contains("100.64.0.0/10"), "{findings:?}");
    }

    #[test]
    fn a_key_is_a_finding_from_three_days_before_its_end() {
        let of = |seconds: i64| {
            let key_expiry = Some(NOW + SignedDuration::from_secs(seconds));
            VpnStatus { key_expiry, ..up(&["100.64.0.7"]) }.findings(NOW)
        };
        let three_days = 3 * 86_400;
        assert_eq!(of(three_days), []);
        assert!(of(three_days - 1)[0].reason.ends_with("in 71 h"), "{:?}", of(three_days - 1));
        assert!(of(0)[0].reason.contains("expired"), "{:?}", of(0));
    }

    #[test]
    fn the_control_plane_is_talked_to_in_the_vpn_only_unless_told_otherwise() {
        let resolved = ["192.0.2.1", "100.64.0.1", "127.0.0.1"].map(ip);
        let within = ApiReach::VpnOnly.permitted("api", &resolved).unwrap();
        assert_eq!(within, ["100.64.0.1", "127.0.0.1"].map(ip));
        assert_eq!(ApiReach::Anywhere.permitted("api", &resolved).unwrap(), resolved);
        let refused = ApiReach::VpnOnly.permitted("api", &resolved[..1]).unwrap_err().to_string();
        assert!(refused.contains("192.0.2.1, which is not in the VPN"), "{refused}");
        assert!(ApiReach::Anywhere.permitted("api", &[]).is_err());
    }
}
