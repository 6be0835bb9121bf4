//! How an agent is, as a function of its record and the time.
//!
//! ```text
//! enrolled ─Register▶ online ⇄ degraded ─last word▶ draining
//!                        └──────── silent for three intervals ────────▶ offline ─heard▶ online …
//! whatever ─revoke▶ revoked, for good
//! ```

use std::time::Duration;

use jiff::Timestamp;

use super::agent::{AgentRecord, Said};

/// So many intervals of silence make an agent offline (issue 6): one lost heartbeat is no news.
pub const SILENT_INTERVALS: u32 = 3;

/// How an agent is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Presence {
    /// It lives, and all is well.
    Online,
    /// It lives, and something is wrong.
    Degraded,
    /// It said its last word a moment ago.
    Draining,
    /// Silent for three intervals.
    Offline,
    /// It has a certificate and never registered.
    Enrolled,
    /// It is barred.
    Revoked,
}

impl Presence {
    /// All there are.
    pub const ALL: [Self; 6] = [
        Self::Online,
        Self::Degraded,
        Self::Draining,
        Self::Offline,
        Self::Enrolled,
        Self::Revoked,
    ];

    /// As the contract writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Offline => "offline",
            Self::Enrolled => "enrolled",
            Self::Revoked => "revoked",
        }
    }
}

/// How the agent is now, if one heartbeat is wanted every `interval`.
#[must_use]
pub fn presence(agent: &AgentRecord, now: Timestamp, interval: Duration) -> Presence {
    if agent.revoked_at.is_some() {
        return Presence::Revoked;
    }
    let (Some(_), Some(heard)) = (&agent.registration, &agent.heard) else {
        return Presence::Enrolled;
    };
    if is_silent(heard.at, now, interval) {
        return Presence::Offline;
    }
    match heard.said {
        Said::Online => Presence::Online,
        Said::Degraded => Presence::Degraded,
        Said::Draining => Presence::Draining,
    }
}

/// Whether who was heard of at `last` is given up for now.
#[must_use]
pub fn is_silent(last: Timestamp, now: Timestamp, interval: Duration) -> bool {
    // A server's clock that was set back makes nobody silent.
    let silence = Duration::try_from(now.duration_since(last)).unwrap_or_default();
    silence >= interval * SILENT_INTERVALS
}

/// An agent's clock may be so far off the server's before it is told: far more than any round trip.
const CLOCK_OFF: Duration = Duration::from_secs(30);

/// What to say of an agent's clock that is wrong.
#[must_use]
pub fn clock_fault(agents: Timestamp, servers: Timestamp) -> Option<String> {
    let off = agents.duration_since(servers);
    if off.unsigned_abs() < CLOCK_OFF {
        return None;
    }
    let side = if off.is_negative() { "behind" } else { "ahead" };
    Some(format!(
        "its clock is {} s {side}; set it, or run an NTP client",
        off.unsigned_abs().as_secs()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::agent::Heard;
    use crate::domain::registration::{Capacity, tests::registration};

    const INTERVAL: Duration = Duration::from_secs(30);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + second).unwrap()
    }

    fn heard(said: Said) -> AgentRecord {
        let id = "0b54c3f8-1f0e-4d0b-9a35-5b1c8a6f0e55".parse().unwrap();
        let mut agent = AgentRecord::enrolled(id, "pc-1", at(-100));
        agent.registration = Some(registration("pc-1"));
        agent.heard = Some(Heard {
            at: at(0),
            said,
            reasons: vec![],
            capacity: Capacity::default(),
            vms: 0,
            vms_running: 0,
            version: String::new(),
            boot_id: String::new(),
        });
        agent
    }

    #[test]
    fn three_silent_intervals_make_an_agent_offline_whatever_it_said() {
        for (said, alive) in [
            (Said::Online, Presence::Online),
            (Said::Degraded, Presence::Degraded),
            (Said::Draining, Presence::Draining),
        ] {
            let agent = heard(said);
            assert_eq!(presence(&agent, at(0), INTERVAL), alive);
            assert_eq!(presence(&agent, at(89), INTERVAL), alive);
            assert_eq!(presence(&agent, at(90), INTERVAL), Presence::Offline);
            assert_eq!(presence(&agent, at(-3600), INTERVAL), alive);
        }
    }

    #[test]
    fn who_never_registered_is_enrolled_and_a_revoked_one_is_nothing_else() {
        let mut agent = heard(Said::Online);
        agent.registration = None;
        assert_eq!(presence(&agent, at(0), INTERVAL), Presence::Enrolled);
        let mut agent = heard(Said::Online);
        agent.revoked_at = Some(at(1));
        assert_eq!(presence(&agent, at(1), INTERVAL), Presence::Revoked);
    }

    #[test]
    fn a_wrong_clock_is_told_with_its_side() {
        assert_eq!(clock_fault(at(29), at(0)), None);
        assert!(clock_fault(at(86_400), at(0)).unwrap().contains("86400 s ahead"));
        assert!(clock_fault(at(0), at(31)).unwrap().contains("31 s behind"));
    }
}
