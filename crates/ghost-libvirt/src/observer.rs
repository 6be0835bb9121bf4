//! Whoever counts the calls of libvirt. Invariant: each call that its caller waited for is told once, at its end, by a
//! name of a fixed set; one that its caller left is not.

use std::fmt;
use std::time::Duration;

use crate::failure::Failure;

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallOutcome {
    /// It brought what was wanted.
    Done,
    /// libvirt answered, with an error, or without what was wanted.
    Failed,
    /// There was no connection.
    Unavailable,
    /// It was not answered in time.
    TimedOut,
    /// It was not made: libvirt is known to be away, or still works on an earlier one for the same VM.
    Refused,
    /// The agent is shutting down, or at fault.
    Other,
}

impl CallOutcome {
    /// What kind of error it is, as metrics name it; `None` if it is none.
    #[must_use]
    pub const fn error_kind(self) -> Option<&'static str> {
        match self {
            Self::Done => None,
            Self::Failed => Some("failed"),
            Self::Unavailable => Some("unavailable"),
            Self::TimedOut => Some("timeout"),
            Self::Refused => Some("refused"),
            Self::Other => Some("other"),
        }
    }

    pub(crate) fn of<T>(result: &Result<T, Failure>) -> Self {
        let failure = match result {
            Ok(_) => return Self::Done,
            Err(failure) => failure,
        };
        match failure {
            Failure::Call(_)
            | Failure::Failed { .. }
            | Failure::NoDomain(_)
            | Failure::NotOurs(_)
            | Failure::NoNetwork(_)
            | Failure::NetworkInactive(_)
            | Failure::NoDhcp(_)
            | Failure::NoAddress { .. }
            | Failure::MacTaken { .. }
            | Failure::NoPool(_)
            | Failure::PoolInactive(_)
            | Failure::NoFilter(_)
            | Failure::Xml { .. } => Self::Failed,
            Failure::Unavailable { .. } => Self::Unavailable,
            Failure::TimedOut { .. } => Self::TimedOut,
            Failure::Resting(_) | Failure::Unfinished { .. } => Self::Refused,
            Failure::Stopped | Failure::Panicked { .. } => Self::Other,
        }
    }
}

/// Counts. Never waits and never fails: it is called in the middle of work.
pub trait CallObserver: fmt::Debug + Send + Sync {
    /// A call has ended. `call` is a name such as `start_domain`, of a fixed set; `took` is from the wish to the answer,
    /// so it holds the wait for a free connection, and is nearly nothing for one that was refused.
    fn call_ended(&self, call: &'static str, outcome: CallOutcome, took: Duration);
}

/// Counts nothing.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Unobserved;

impl CallObserver for Unobserved {
    fn call_ended(&self, _call: &'static str, _outcome: CallOutcome, _took: Duration) {}
}

/// What is told of a call that failed, and the name that it has in metrics and traces.
const NAMES: [(&str, &str); 20] = [
    ("ask the guest to power off", "ask_power_off"),
    ("cut the domain's power", "cut_power"),
    ("define the domain", "define_domain"),
    ("describe itself", "describe"),
    ("give the address back", "release_address"),
    ("hold the VM to the owner's limits", "tune_domain"),
    ("look at its network and pool", "check"),
    ("look for its domains", "list_domains"),
    ("look for the VM's volumes", "find_volumes"),
    ("make the VM's disk", "create_disk"),
    ("measure the storage pool", "pool_space"),
    ("observe the domains", "observe_domains"),
    ("read the guest's console", "read_console"),
    ("read the VM's lease", "read_lease"),
    ("remove the domain", "remove_domain"),
    ("remove the VM's disk", "remove_disk"),
    ("remove the VM's seed", "remove_seed"),
    ("reserve an address", "reserve_address"),
    ("start the domain", "start_domain"),
    ("store the VM's seed", "store_seed"),
];

/// The name of the call that is described like this; `other` if it has none.
pub(crate) fn name_of(what: &str) -> &'static str {
    NAMES.iter().find(|(known, _)| *known == what).map_or("other", |(_, name)| name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// What calls of the executor are described as in a file, its tests left out.
    fn described(path: &Path, into: &mut BTreeSet<String>) {
        let source = std::fs::read_to_string(path).unwrap();
        let source = source.split("#[cfg(test)]").next().unwrap();
        for before in source.split("Effort::").collect::<Vec<_>>().iter().rev().skip(1) {
            let Some(text) = before.trim_end().strip_suffix("\",") else { continue };
            into.insert(text.rsplit('"').next().unwrap().to_owned());
        }
        for after in source.split("self.remove(id, \"").skip(1) {
            into.insert(after.split('"').next().unwrap().to_owned());
        }
    }

    fn described_in(folder: &Path, into: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match (path.is_dir(), path.ends_with("executor")) {
                (true, true) => {}
                (true, false) => described_in(&path, into),
                (false, _) => described(&path, into),
            }
        }
    }

    #[test]
    fn each_call_has_a_name_and_each_name_a_call() {
        let mut calls = BTreeSet::new();
        described_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut calls);
        let named: BTreeSet<String> = NAMES.iter().map(|(what, _)| (*what).to_owned()).collect();
        assert_eq!(calls, named);
    }

    #[test]
    fn names_are_snake_case_and_differ() {
        let names: BTreeSet<_> = NAMES.iter().map(|(_, name)| *name).collect();
        assert_eq!(names.len(), NAMES.len());
        for name in names {
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
        }
        assert_eq!(name_of("anything else"), "other");
    }
}
