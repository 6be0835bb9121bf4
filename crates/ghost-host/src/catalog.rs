//! `images.catalog`: the owner's list of templates, YAML, in the format of the built-in one
//! ([`publisher::catalog`](crate::publisher::catalog)).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ghost_core::domain::Template;

use crate::publisher::catalog::{built_in, parse};

/// Why a catalogue can't be used. `Display` has one line a problem, `file:line: problem`.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The file can't be read.
    #[error("{}: cannot be read ({source}); correct images.catalog in the config, or make the file readable for the agent's user", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file can be read, and says what it must not.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, in the order of the lines; never empty.
        problems: Vec<Problem>,
    },
}

/// One thing that is wrong in a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, from 1; 0 if it is unknown.
    pub line: u64,
    /// What is wrong and what is allowed, in one line.
    pub text: String,
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    let line = |p: &Problem| match p.line {
        0 => format!("{}: {}", path.display(), p.text),
        n => format!("{}:{n}: {}", path.display(), p.text),
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The rows that this program brings along.
///
/// # Errors
/// None that a build whose tests pass can have.
pub fn built_in_catalog() -> Result<Vec<Template>, CatalogError> {
    let path = || PathBuf::from("the built-in catalogue");
    built_in().map_err(|problems| CatalogError::Invalid { path: path(), problems })
}

/// Reads the catalogue at `path`. Blocks.
///
/// # Errors
/// If it can't be read, or anything in it is wrong.
pub fn read_catalog(path: &Path) -> Result<Vec<Template>, CatalogError> {
    let yaml = std::fs::read_to_string(path)
        .map_err(|source| CatalogError::Read { path: path.to_owned(), source })?;
    parse(&yaml).map_err(|problems| CatalogError::Invalid { path: path.to_owned(), problems })
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_shown_as_file_and_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("images.yaml");
        let row = "- name: debian-12\n  arch: amd64\n  url: gopher://mirror.example/a.qcow2\n";
        std::fs::write(&path, row).unwrap();
        let text = read_catalog(&path).unwrap_err().to_string();
        let expected =
            format!("{}:3: url 'gopher://mirror.example/a.qcow2': allowed:", path.display());
        assert!(text.lines().any(|line| line.starts_with(&expected)), "{text}");
    }

    #[test]
    fn a_missing_file_is_named_with_a_remedy() {
        let text = read_catalog(Path::new("/nowhere/images.yaml")).unwrap_err().to_string();
        assert!(text.contains("/nowhere/images.yaml: cannot be read (No such file"), "{text}");
        assert!(text.contains("; correct images.catalog"), "{text}");
    }
}
