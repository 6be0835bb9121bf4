//! What is on this host, apart from libvirt.

use std::time::Duration;

use ghost_core::domain::{AppError, Bytes, CachedImage, Condition};
use ghost_libvirt::Acceleration;

use super::super::history::Lost;
use super::super::looks::Seen;
use super::super::state_folder::StateFolder;
use super::super::verdict::Verdict;
use super::SLOW;

/// Less space than this is soon used up by records and by the log: no VM can be made without a record.
pub(in super::super) const LEAST_SPACE: Bytes = Bytes(64 << 20);

/// How long a look at all cached images may take: their headers are read.
const LONG: Duration = Duration::from_secs(30);

/// The folder that holds the VMs' records.
pub(in super::super) fn ledger(seen: &Seen<StateFolder>) -> Verdict {
    if seen.waiting >= SLOW {
        return Verdict::down(
            format!(
                "the disk under agent.state_dir has not answered for {} s",
                seen.waiting.as_secs()
            ),
            "look at dmesg for errors of the disk, or at the server of a network file system",
        );
    }
    let Some((folder, _)) = &seen.last else { return Verdict::UP };
    match &folder.refuses {
        Some(why) => Verdict::down(
            format!("nothing can be written to agent.state_dir, so no VM can be made: {why}"),
            "make its file system writable for the agent's user, and free space and inodes: df -h; df -i",
        ),
        None if folder.free < LEAST_SPACE => Verdict::down(
            format!(
                "the file system of agent.state_dir has {} left, and needs {LEAST_SPACE}",
                folder.free
            ),
            "free space there: df -h /var/lib/ghost",
        ),
        None => Verdict::UP,
    }
}

/// The images that failed their verification, or why they can't be listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) enum Images {
    Quarantined(Vec<String>),
    Unreadable(String, String),
}

impl Images {
    pub(in super::super) fn of(listed: Result<Vec<CachedImage>, AppError>) -> Self {
        let listed = match listed {
            Ok(listed) => listed,
            Err(error) => {
                let remedy =
                    error.advice().unwrap_or("see whether libvirt.image_cache can be read");
                return Self::Unreadable(error.message().to_owned(), remedy.to_owned());
            }
        };
        let bad = listed.into_iter().filter_map(|image| match image.condition {
            Condition::Proven => None,
            Condition::Quarantined { why } => Some(format!("{} ({why})", image.checksum)),
        });
        Self::Quarantined(bad.collect())
    }
}

/// The cache of base images.
pub(in super::super) fn images(seen: &Seen<Images>) -> Verdict {
    if seen.waiting >= LONG {
        return Verdict::degraded(
            format!(
                "the disk under libvirt.image_cache has not answered for {} s",
                seen.waiting.as_secs()
            ),
            "look at dmesg for errors of the disk",
        );
    }
    match &seen.last {
        None => Verdict::UP,
        Some((Images::Quarantined(bad), _)) => match bad.split_first() {
            None => Verdict::UP,
            Some((first, others)) => {
                let more = match others.len() {
                    0 => String::new(),
                    n => format!(", and {n} more"),
                };
                Verdict::degraded(
                    format!(
                        "a cached image is not what it was, and backs no new VM: {first}{more}"
                    ),
                    "look at the disk's health, then fetch it again: agentctl image list; agentctl image remove DIGEST; agentctl image pull TEMPLATE",
                )
            }
        },
        Some((Images::Unreadable(why, remedy), _)) => Verdict::degraded(why, remedy),
    }
}

/// The queue of events for the control plane; `trouble` is the queue's own word.
pub(in super::super) fn events(trouble: Option<String>) -> Verdict {
    trouble.map_or(Verdict::UP, |trouble| {
        Verdict::degraded(
            trouble,
            "free space in agent.state_dir, and see whether it can be written",
        )
    })
}

/// The log; so many lines were lost within [`Lost::WINDOW`].
pub(in super::super) fn log(lost: u64) -> Verdict {
    match lost {
        0 => Verdict::UP,
        lost => Verdict::degraded(
            format!(
                "{lost} lines of the log were lost in the last {} minutes",
                Lost::WINDOW.as_secs() / 60
            ),
            "free space on the log's disk, or raise logging.level; the API is not affected",
        ),
    }
}

/// What runs the guests' CPUs.
pub(in super::super) fn acceleration(acceleration: Acceleration) -> Verdict {
    match acceleration {
        Acceleration::Kvm => Verdict::UP,
        Acceleration::Tcg => Verdict::degraded(
            "guests are emulated (tcg): slow, and isolated from the host by no hardware",
            "switch on VT-x or AMD-V in the firmware, load the kvm module, and set hypervisor.acceleration to kvm; see: agentctl doctor",
        ),
    }
}
