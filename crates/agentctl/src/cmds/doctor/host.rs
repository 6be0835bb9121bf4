//! Judges the host itself: space, clock, and the agent on it.

use std::path::PathBuf;

use super::facts::Ran;
use super::finding::Finding;
use crate::errors::Failure;

/// Bytes.
pub(super) const GIB: u64 = 1 << 30;
/// The smallest disk of a VM is 10 GiB (requirements, FR1.1).
const TOO_LITTLE: u64 = 10 * GIB;
const LITTLE: u64 = 20 * GIB;
/// `STA_UNSYNC` of adjtimex(2).
const STA_UNSYNC: u32 = 0x0040;

/// Free space for a folder.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) path: PathBuf,
    /// For users who are not root.
    pub(super) free_bytes: u64,
}

/// What three tools say about the clock; one that is missing says nothing.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) timedatectl: Ran,
    pub(super) adjtimex: Ran,
    pub(super) chrony: Ran,
}

/// A finding when there is little or too little free space.
pub(super) fn scarce(check: &'static str, what: &str, free_bytes: u64) -> Option<Finding> {
    let found = format!("{what} has {} GiB free", free_bytes / GIB);
    match free_bytes {
        0..TOO_LITTLE => Some(Finding::failed(
            check,
            format!("{found}: not enough for the smallest VM"),
            "free at least 10 GiB",
        )),
        TOO_LITTLE..LITTLE => {
            Some(Finding::warning(check, found, "free 20 GiB, or keep to one small VM"))
        }
        LITTLE.. => None,
    }
}

/// Is there room for images and the ledger?
pub(super) fn state_folder(space: &Option<Space>) -> Finding {
    const CHECK: &str = "disk space";
    let Some(space) = space else {
        return Finding::warning(CHECK, "cannot be read", "look at df /var/lib");
    };
    let path = space.path.display().to_string();
    scarce(CHECK, &path, space.free_bytes).unwrap_or_else(|| {
        Finding::ok(CHECK, format!("{path} has {} GiB free", space.free_bytes / GIB))
    })
}

/// Is the clock kept right? Certificates and leases depend on it.
pub(super) fn clock(clock: &Clock) -> Finding {
    const CHECK: &str = "clock";
    match synchronised(clock) {
        Some(true) => Finding::ok(CHECK, "is synchronised"),
        Some(false) => Finding::warning(
            CHECK,
            "is not synchronised: certificates may seem expired or not yet valid",
            "sudo timedatectl set-ntp true, or install chrony",
        ),
        None => Finding::warning(
            CHECK,
            "cannot tell whether it is synchronised",
            "install systemd-timesyncd or chrony, or compare it by hand",
        ),
    }
}

fn synchronised(clock: &Clock) -> Option<bool> {
    let say = |ran: &Ran, read: fn(&str) -> Option<bool>| match ran {
        Ran::Printed(text) => read(text),
        Ran::Failed(_) | Ran::Hung | Ran::Missing | Ran::Skipped => None,
    };
    say(&clock.timedatectl, from_timedatectl)
        .or_else(|| say(&clock.adjtimex, from_adjtimex))
        .or_else(|| say(&clock.chrony, from_chrony))
}

fn from_timedatectl(text: &str) -> Option<bool> {
    match text.trim() {
        "yes" => Some(true),
        "no" => Some(false),
        _ => None,
    }
}

/// `    status:       64 (UNSYNC)`.
fn from_adjtimex(text: &str) -> Option<bool> {
    let value = text.lines().find_map(|line| line.trim().strip_prefix("status:"))?;
    let bits: u32 = value.split_whitespace().next()?.parse().ok()?;
    Some(bits & STA_UNSYNC == 0)
}

/// `Leap status     : Normal`.
fn from_chrony(text: &str) -> Option<bool> {
    let line = text.lines().find(|line| line.starts_with("Leap status"))?;
    Some(!line.contains("Not synchronised"))
}

/// Does the agent answer? A host may be fit before there is one.
pub(super) fn agent(answer: &Result<usize, Failure>) -> Finding {
    const CHECK: &str = "ghost-agent";
    match answer {
        Ok(vms) => Finding::ok(CHECK, format!("answers, with {vms} VMs")),
        Err(failure) => Finding::warning(
            CHECK,
            failure.message.clone(),
            failure
                .remedy
                .clone()
                .unwrap_or_else(|| "look at journalctl -u ghost-agent".to_owned()),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    fn seen(timedatectl: Ran, adjtimex: Ran, chrony: Ran) -> Verdict {
        clock(&Clock { timedatectl, adjtimex, chrony }).verdict
    }

    fn printed(text: &str) -> Ran {
        Ran::Printed(text.to_owned())
    }

    #[test]
    fn the_first_tool_that_knows_decides_on_the_clock() {
        let unsync = printed("    mode:         0\n    status:       64 (UNSYNC)\n");
        let sync = printed("    status:       8193 (PLL | NANO)\n");
        let chrony = printed("Stratum         : 3\nLeap status     : Normal\n");
        let lost = printed("Leap status     : Not synchronised\n");
        assert_eq!(seen(printed("yes\n"), unsync.clone(), Ran::Missing), Verdict::Ok);
        assert_eq!(seen(printed("no\n"), sync.clone(), Ran::Missing), Verdict::Warning);
        assert_eq!(seen(Ran::Failed("no bus".to_owned()), sync, Ran::Missing), Verdict::Ok);
        assert_eq!(seen(Ran::Missing, unsync, chrony.clone()), Verdict::Warning);
        assert_eq!(seen(Ran::Missing, Ran::Missing, chrony), Verdict::Ok);
        assert_eq!(seen(Ran::Missing, Ran::Hung, lost), Verdict::Warning);
        assert_eq!(seen(Ran::Missing, Ran::Missing, Ran::Missing), Verdict::Warning);
    }

    #[test]
    fn space_is_judged_by_the_smallest_vm() {
        let judged = |gib: u64| {
            state_folder(&Some(Space { path: "/d".into(), free_bytes: gib * GIB })).verdict
        };
        assert_eq!(
            [judged(9), judged(10), judged(19), judged(20)],
            [Verdict::Failed, Verdict::Warning, Verdict::Warning, Verdict::Ok]
        );
    }

    #[test]
    fn an_agent_that_is_away_does_not_make_the_host_unfit() {
        let finding = agent(&Err(Failure::usage("no socket").remedy("start it")));
        assert_eq!(
            (finding.verdict, finding.remedy.as_deref()),
            (Verdict::Warning, Some("start it"))
        );
    }
}
