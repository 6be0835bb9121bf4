//! The rows of a catalogue, built in or the owner's, as YAML.
//!
//! ```yaml
//! - name: debian-12
//!   arch: x86_64            # or aarch64; amd64 and arm64 are understood
//!   url: https://mirror.example/debian-12.qcow2.xz
//!   default_user: debian
//!   min_disk_gib: 4         # the image's own size counts in any case
//!   firmware: bios          # or uefi; where nothing is said: x86_64 bios, aarch64 uefi
//!   # Either the hash itself:
//!   checksum: sha256:…      # or sha512:…
//!   # or the publisher's list:
//!   sums: https://mirror.example/SHA256SUMS
//!   sums_format: gnu        # or bsd, single
//!   sums_algorithm: sha256  # or sha512
//!   sums_file: name         # in the list; where nothing is said: the last part of url
//!   signed_by: ubuntu-cloud-images                     # a pinned key
//!   signature: https://mirror.example/SHA256SUMS.gpg   # none: the list is clearsigned
//!   unsigned: why           # instead of the two above
//! ```
//!
//! Invariant: a list that is accepted has no unknown key, no missing one, no two keys that
//! contradict each other and no template twice; one that isn't is refused with all of its problems,
//! each with its line.

use ghost_core::domain::{Arch, Template};
use serde_saphyr::Spanned;

use crate::catalog::Problem;

mod row;

use row::{KEYS, Row};

const BUILT_IN: &str = include_str!("catalog.yaml");

/// The rows of this program, for every architecture.
///
/// # Errors
/// None that a build whose tests pass can have.
pub fn built_in() -> Result<Vec<Template>, Vec<Problem>> {
    parse(BUILT_IN)
}

/// Reads the text of a catalogue; an empty one has no rows.
///
/// # Errors
/// Everything that is wrong, in the order of the lines.
pub fn parse(yaml: &str) -> Result<Vec<Template>, Vec<Problem>> {
    let rows: Option<Vec<Spanned<Row>>> =
        serde_saphyr::from_str(yaml).map_err(|error| vec![no_list(&error)])?;
    let mut problems = Vec::new();
    let mut sources: Vec<(Template, u64)> = Vec::new();
    for row in rows.unwrap_or_default() {
        let line = row.defined.line();
        if let Some(source) = row::read(&row.value, line, &mut problems) {
            problems.extend(same(&sources, &source, line));
            sources.push((source, line));
        }
    }
    problems.sort_by_key(|problem| problem.line);
    if problems.is_empty() {
        Ok(sources.into_iter().map(|(source, _)| source).collect())
    } else {
        Err(problems)
    }
}

fn no_list(error: &serde_saphyr::Error) -> Problem {
    let line = error.location().map_or(0, |location| location.line());
    let said = error.without_snippet().to_string();
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let keys = KEYS.join(", ");
    let text = format!("{said}; a catalogue is a list of entries with the keys {keys}");
    Problem { line, text }
}

fn same(former: &[(Template, u64)], source: &Template, line: u64) -> Option<Problem> {
    let is_same = |(other, _): &&(Template, u64)| key(other) == key(source);
    let (_, first) = former.iter().find(is_same)?;
    let (name, arch) = (&source.name, source.arch.as_str());
    let text =
        format!("'{name}' for {arch} is already on line {first}; names must differ for each arch");
    Some(Problem { line, text })
}

fn key(source: &Template) -> (&str, Arch) {
    (source.name.as_str(), source.arch)
}

#[cfg(test)]
mod tests;
