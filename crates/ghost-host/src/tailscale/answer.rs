//! What tailscaled says, read. Invariant: of what it says only what has the form that the source gives
//! it is believed; Go writes `null` for what is empty, and the year 1 for no time.

use std::collections::HashMap;
use std::net::IpAddr;

use ghost_core::domain::{VpnState, VpnStatus};
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::TailscaleError;

/// `ipnstate.Status`, as far as it is of use.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Status {
    backend_state: String,
    #[serde(rename = "TailscaleIPs")]
    addresses: Option<Vec<IpAddr>>,
    #[serde(rename = "Self")]
    own: Option<Own>,
    peer: Option<HashMap<String, IgnoredAny>>,
}

/// `ipnstate.PeerStatus` of this host.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Own {
    #[serde(rename = "HostName")]
    host_name: Option<String>,
    #[serde(rename = "DNSName")]
    dns_name: Option<String>,
    #[serde(rename = "TailscaleIPs")]
    addresses: Option<Vec<IpAddr>>,
    key_expiry: Option<Timestamp>,
}

/// Reads an answer.
pub(super) fn understand(body: &[u8]) -> Result<VpnStatus, TailscaleError> {
    let status: Status =
        serde_json::from_slice(body).map_err(|error| TailscaleError::Garbage(error.to_string()))?;
    let state = state(&status.backend_state)?;
    let own = status.own.unwrap_or_default();
    let named = |name: Option<String>| name.filter(|name| !name.is_empty());
    let dns_name = named(own.dns_name).map(|name| name.trim_end_matches('.').to_owned());
    Ok(VpnStatus {
        state,
        addresses: status.addresses.or(own.addresses).unwrap_or_default(),
        host_name: named(own.host_name),
        dns_name,
        key_expiry: own.key_expiry.filter(|end| *end > Timestamp::UNIX_EPOCH),
        peers: status.peer.map(|peers| peers.len()),
    })
}

/// `ipn.State.String()`.
fn state(word: &str) -> Result<VpnState, TailscaleError> {
    match word {
        "NoState" | "Starting" => Ok(VpnState::Starting),
        "NeedsLogin" | "InUseOtherUser" => Ok(VpnState::NeedsLogin),
        "NeedsMachineAuth" => Ok(VpnState::NeedsApproval),
        "Stopped" => Ok(VpnState::Stopped),
        "Running" => Ok(VpnState::Running),
        other => {
            let shown: String = other.chars().take(40).flat_map(char::escape_debug).collect();
            Err(TailscaleError::Garbage(format!("it is in a state '{shown}'")))
        }
    }
}
