//! What the facts come to. Invariant: nothing here looks at anything; the same facts give the same verdict.

mod others;
mod own_side;
#[cfg(test)]
mod tests;

pub(super) use others::{Validity, api, certificate, vpn};
pub(super) use own_side::{Images, acceleration, events, images, ledger, log};

use std::time::Duration;

use ghost_core::domain::AppError;
use ghost_libvirt::{ConnectionState, Outage};
use jiff::Timestamp;

use super::looks::Seen;
use super::verdict::Verdict;

/// How long an answer of libvirt or of a disk may take before it is worth a word.
const SLOW: Duration = Duration::from_secs(5);

/// What is said of the way out of an outage of libvirt.
const START_LIBVIRT: &str = "start it: systemctl start libvirtd; guests run on meanwhile";

/// One finding of [`ghost_libvirt::Libvirt::check`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    /// Of what; of libvirt itself if it is `None`.
    pub(super) part: Option<String>,
    pub(super) message: String,
    pub(super) remedy: String,
}

impl From<&AppError> for Finding {
    fn from(error: &AppError) -> Self {
        let part = error.context().iter().find(|(key, _)| *key == ghost_libvirt::PART);
        Self {
            part: part.map(|(_, part)| part.clone()),
            message: error.message().to_owned(),
            remedy: error.advice().unwrap_or("read the agent's log").to_owned(),
        }
    }
}

/// What looks at libvirt have found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Why the last one found nothing.
    pub(super) outage: Option<Finding>,
    /// What the last one that found something found, and when.
    pub(super) parts: Option<(Vec<Finding>, Timestamp)>,
}

impl Found {
    /// After another look.
    pub(super) fn next(former: Option<Self>, findings: Vec<AppError>, now: Timestamp) -> Self {
        let findings: Vec<Finding> = findings.iter().map(Finding::from).collect();
        match findings.iter().find(|finding| finding.part.is_none()) {
            Some(outage) => {
                let parts = former.and_then(|former| former.parts);
                Self { outage: Some(outage.clone()), parts }
            }
            None => Self { outage: None, parts: Some((findings, now)) },
        }
    }
}

/// libvirt itself.
pub(super) fn libvirt(state: &ConnectionState, seen: &Seen<Found>) -> Verdict {
    match state {
        ConnectionState::Connecting => Verdict::down("libvirt was not reached yet", START_LIBVIRT),
        ConnectionState::Disconnected(why) => {
            Verdict::down(format!("libvirt is away: {why}"), remedy_of_outage(why))
        }
        ConnectionState::Stopped => Verdict::down("the agent is stopping", "start it again"),
        ConnectionState::Connected => {
            let outage = seen.last.as_ref().and_then(|(found, _)| found.outage.as_ref());
            match outage {
                Some(outage) => Verdict::down(&outage.message, &outage.remedy),
                None if seen.waiting >= SLOW => Verdict::degraded(
                    format!("libvirt has not answered for {} s", seen.waiting.as_secs()),
                    "see what libvirtd is doing: journalctl -u libvirtd",
                ),
                None => Verdict::UP,
            }
        }
    }
}

fn remedy_of_outage(why: &str) -> &'static str {
    match Outage::of(why) {
        Outage::Denied => {
            "let the agent's user use libvirt's socket: usermod -aG libvirt ghost-agent, then restart the agent"
        }
        Outage::Hangs => {
            "if it lasts, end what hangs: systemctl restart libvirtd; guests run on meanwhile"
        }
        Outage::Away => START_LIBVIRT,
    }
}

/// What libvirt has for VMs: `part` is as in a [`Finding`]. What was found last holds while libvirt does not answer.
pub(super) fn part(part: &str, seen: &Seen<Found>, now: Timestamp) -> (Verdict, Timestamp) {
    let Some((findings, at)) = seen.last.as_ref().and_then(|(found, _)| found.parts.as_ref())
    else {
        // The first look has only just begun.
        if seen.last.is_none() && seen.waiting < SLOW {
            return (Verdict::UP, seen.at(now));
        }
        let unknown = "not known: libvirt has not answered since the agent started";
        return (Verdict::degraded(unknown, START_LIBVIRT), seen.at(now));
    };
    let age = now.duration_since(*at).as_secs();
    let stale = age > i64::try_from(3 * super::EVERY.as_secs()).unwrap_or(i64::MAX);
    let stale = stale.then(|| format!("libvirt has not answered for {age} s"));
    let finding = findings.iter().find(|finding| finding.part.as_deref() == Some(part));
    let verdict = match (finding, stale) {
        (Some(found), None) => Verdict::down(&found.message, &found.remedy),
        (Some(found), Some(stale)) => {
            Verdict::down(format!("{}; {stale}", found.message), &found.remedy)
        }
        (None, None) => Verdict::UP,
        (None, Some(stale)) => Verdict::up_but(format!("it was there; {stale}")),
    };
    (verdict, *at)
}
