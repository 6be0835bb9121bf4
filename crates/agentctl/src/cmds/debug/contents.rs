//! What goes into the bundle. Invariants: every text in it is [`Scrubbed`], no file and no bundle is larger than its limit, and what is missing
//! is said.

use std::fmt::Write as _;

use ghost_scrub::{MARK, Scrubbed, Scrubber};

use super::names::Name;

/// Largest file, in bytes.
pub(super) const FILE: usize = 8 << 20;
/// All files together, before they are packed.
const BUNDLE: usize = 64 << 20;
/// Most files.
const FILES: usize = 5000;

/// What of a file that is too large is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Beginning,
    End,
}

/// How much there may be, in bytes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    file: usize,
    bundle: usize,
}

/// The files.
#[derive(Debug)]
pub(super) struct Contents {
    scrubber: Scrubber,
    files: Vec<(Name, Scrubbed)>,
    limits: Limits,
    size: usize,
    missing: Vec<String>,
}

impl Contents {
    pub(super) fn new(scrubber: Scrubber) -> Self {
        let limits = Limits { file: FILE, bundle: BUNDLE };
        Self { scrubber, files: Vec::new(), limits, size: 0, missing: Vec::new() }
    }

    /// Adds a text; of one that is too large the end or the beginning.
    pub(super) fn add(&mut self, name: Name, text: &str, kept: Kept) {
        let text = self.scrubber.scrub(text);
        let text = match kept {
            Kept::Beginning => text.beginning(self.limits.file),
            Kept::End => text.end(self.limits.file),
        };
        let size = self.size + text.as_str().len();
        if size > self.limits.bundle || self.files.len() >= FILES {
            return self.miss(&format!("{}: left out, because the bundle is full", name.as_str()));
        }
        self.size = size;
        let clash = |name: &Name| self.files.iter().any(|(there, _)| there.clashes_with(name));
        let name = if clash(&name) { name.numbered(self.files.len()) } else { name };
        self.files.push((name, text));
    }

    /// Adds what an agent sent; its name may hold a secret too.
    pub(super) fn add_sent(&mut self, name: &str, text: &str) {
        let name = Name::sent(self.scrubber.scrub(name).as_str());
        self.add(name, text, Kept::Beginning);
    }

    /// Says that something is missing, and why.
    pub(super) fn miss(&mut self, what: &str) {
        self.missing.push(self.scrubber.scrub(&what.replace('\n', " ")).as_str().to_owned());
    }

    /// What is missing, one line each.
    pub(super) fn missing(&self) -> &[String] {
        &self.missing
    }

    /// All files, those that describe the others first.
    pub(super) fn finish(mut self) -> Vec<(Name, Scrubbed)> {
        self.files.sort_by(|(one, _), (other, _)| one.cmp(other));
        let (readme, manifest) = (self.readme(), self.manifest());
        let describing = [("README.txt", readme), ("manifest.txt", manifest)];
        let describing =
            describing.map(|(name, text)| (Name::own(name), self.scrubber.scrub(&text)));
        describing.into_iter().chain(self.files).collect()
    }

    fn manifest(&self) -> String {
        let line = |(name, text): &(Name, Scrubbed)| {
            format!("{:>9} {}\n", text.as_str().len(), name.as_str())
        };
        self.files.iter().map(line).collect()
    }

    fn readme(&self) -> String {
        let mut text = format!(
            "What Ghost Agent's maintainers need to understand a fault. manifest.txt lists the files with their sizes in bytes.\n\n\
             agent/    the agent: version, configuration in force, health, metrics, last lines of its log, VMs, images\n\
             ledger/   what it has recorded of each VM\n\
             libvirt/  versions, network, pool, and the domains of its VMs\n\
             host/     kernel, memory, processor, disks, network interfaces\n\
             ctl/      what agentctl saw by itself: its version, doctor, the configuration that a start would read\n\
             journal/  the service's last lines in the journal, or in its log file\n\n\
             Left out: private keys, passwords, tokens, GHOST_API_KEY, user and query of URLs, user data, seeds, what guests\n\
             print, values of labels. {MARK} stands where something was taken out of a text.\n\
             Not left out: names of VMs and hosts, addresses, paths, certificates' names, request ids.\n\n\
             Look through it before you send it: what looks like any other word is not recognized as a secret.\n\n\
             Missing:\n"
        );
        let missing: &[String] = &self.missing;
        for line in missing {
            // Writing to a String can't fail.
            let _ = writeln!(text, "- {line}");
        }
        if missing.is_empty() {
            text.push_str("nothing that is known here; agent/errors.txt is the agent's own list\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents() -> Contents {
        Contents::new(Scrubber::knowing(["known-4711"]))
    }

    #[test]
    fn whatever_comes_in_is_scrubbed() {
        let mut contents = contents();
        contents.add(Name::sent("agent/x"), "password: hunter2\nknown-4711\n", Kept::Beginning);
        contents.miss("no known-4711\nhere");
        let all: String = contents.finish().iter().map(|(_, text)| text.to_string()).collect();
        assert!(!all.contains("hunter2") && !all.contains("known-4711"), "{all}");
        assert!(all.contains("- no ███ here\n"), "{all}");
    }

    #[test]
    fn a_bundle_has_an_end_and_says_what_is_left_out() {
        let limits = Limits { file: 1000, bundle: 5000 };
        let mut contents = Contents { limits, ..contents() };
        let big = "x\n".repeat(1000);
        for _ in 0..9 {
            contents.add(Name::sent("agent/big"), &big, Kept::End);
        }
        let full = contents.missing().iter().filter(|line| line.contains("the bundle is full"));
        assert_eq!(full.count(), 5);
        let files = contents.finish();
        let big = files.iter().filter(|(name, _)| name.as_str().contains("big"));
        assert_eq!(big.clone().count(), 4);
        assert!(big.clone().all(|(_, text)| text.as_str().len() <= limits.file + 64));
        let names: std::collections::BTreeSet<_> =
            files.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), files.len(), "no two have one name");
    }
}
