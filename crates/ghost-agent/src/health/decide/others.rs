//! What others have a part in: the control plane, the VPN, the certificate.

use std::time::Duration;

use ghost_core::application::{Link, LinkState};
use ghost_core::domain::control::Refusal;
use jiff::{SignedDuration, Timestamp};

use super::super::verdict::Verdict;
use crate::vpn::VpnView;

/// How long after its start the agent need not have reached the control plane: the host's network may just be coming up.
const GRACE: Duration = Duration::from_secs(60);

/// Shortest time before a certificate's end at which it is worth a word, unless its whole life is short.
const WARNING: SignedDuration = SignedDuration::from_hours(7 * 24);

/// The control plane; `uptime` is the agent's.
pub(in super::super) fn api(link: &LinkState, uptime: Duration) -> Verdict {
    let error = match &link.link {
        Link::Registered { .. } => return Verdict::UP,
        Link::Away(None) if uptime < GRACE => {
            return Verdict::up_but(
                "the control plane was not reached yet: the agent has just started",
            );
        }
        Link::Away(None) => {
            return Verdict::degraded(
                "the control plane was not reached yet",
                "see whether agent.api_url is right, and the agent's log: it may still wait for its certificate",
            );
        }
        Link::Away(Some(error)) | Link::Refused(error) => error,
    };
    let remedy = match error.refusal {
        Refusal::Transient { .. } | Refusal::NotRegistered => {
            "see whether it runs and can be reached (agent.api_url, the VPN); it is tried again by itself, and guests are not affected"
        }
        Refusal::Superseded => {
            "stop the other agent that has this one's id, or restart this one; see SUPERSEDED in docs/operations.md"
        }
        Refusal::Refused => {
            "do what it says, or ask whoever runs the control plane; it is tried again every 5 minutes"
        }
    };
    Verdict::degraded(&error.cause, remedy)
}

/// The VPN of an agent that can't do without.
pub(in super::super) fn vpn(view: &VpnView, now: Timestamp) -> Verdict {
    let findings = view.status.iter().flat_map(|status| status.findings(now)).next();
    match (&view.failure, findings) {
        (_, Some(finding)) => Verdict::degraded(finding.reason, finding.remedy),
        (Some(failure), None) => Verdict::degraded(
            failure,
            "look at the VPN's client: systemctl status tailscaled; tailscale status",
        ),
        (None, None) => Verdict::UP,
    }
}

/// From when to when a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Validity {
    pub(in super::super) from: Timestamp,
    pub(in super::super) until: Timestamp,
}

/// The agent's certificate, if there is one.
pub(in super::super) fn certificate(found: Option<Validity>, now: Timestamp) -> Verdict {
    let remedy = "renew it: put another certificate into the files, or see in the log why the control plane gave none; agentctl certs status shows it";
    let Some(Validity { from, until }) = found else {
        return Verdict::degraded(
            "there is no certificate yet, so the agent neither listens on TCP nor talks to a control plane",
            "set GHOST_API_KEY to enrol, or make certificates: agentctl certs init",
        );
    };
    // A control plane renews after two thirds of the time: a sixth of it left is late, however short that is.
    let sixth = until.duration_since(from) / 6;
    match until.duration_since(now) {
        left if left.is_negative() => Verdict::down(
            format!("the agent's certificate expired at {until}, so nobody believes the agent"),
            remedy,
        ),
        left if left < sixth.min(WARNING) => Verdict::degraded(
            format!("the agent's certificate expires at {until}, in {} h", left.as_hours()),
            remedy,
        ),
        _ => Verdict::UP,
    }
}
