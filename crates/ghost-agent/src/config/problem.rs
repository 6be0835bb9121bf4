//! Invariant: a problem is one line that says where the value stands, what is wrong with it, what
//! is allowed, and never shows a secret.

use std::fmt;
use std::path::{Path, PathBuf};

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Line `line`, counted from 1, of the file `path`.
    File {
        /// The file as it was named.
        path: PathBuf,
        /// The line of the key, counted from 1.
        line: usize,
    },
    /// The environment variable of this name.
    Environment(String),
    /// Nobody set it.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// What a problem is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    File(PathBuf),
    Value(Origin, Option<String>),
}

/// One thing that is wrong with the configuration. `Display` is one line.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    subject: Subject,
    text: String,
}

impl Problem {
    /// The file as a whole cannot be used.
    pub(super) fn of_file(path: &Path, text: impl Into<String>) -> Self {
        Self { subject: Subject::File(path.to_owned()), text: text.into() }
    }

    /// Line `line` of the file is wrong, whatever key it belongs to.
    pub(super) fn of_line(path: &Path, line: usize, text: impl Into<String>) -> Self {
        let origin = Origin::File { path: path.to_owned(), line };
        Self { subject: Subject::Value(origin, None), text: text.into() }
    }

    /// The key `key`, such as `grpc.listen_addr`, set at `origin`, is wrong.
    pub(super) fn of_key(origin: Origin, key: &str, text: impl Into<String>) -> Self {
        Self { subject: Subject::Value(origin, Some(key.to_owned())), text: text.into() }
    }

    /// The environment variable `name` is wrong.
    pub(super) fn of_variable(name: &str, text: impl Into<String>) -> Self {
        let origin = Origin::Environment(name.to_owned());
        Self { subject: Subject::Value(origin, None), text: text.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.subject {
            Subject::File(path) => write!(f, "{}: ", path.display())?,
            Subject::Value(Origin::Default, Some(key)) => write!(f, "{key}: ")?,
            Subject::Value(origin @ Origin::File { .. }, Some(key)) => {
                write!(f, "{origin}: {key}: ")?
            }
            // The variable's name already says which key it sets.
            Subject::Value(origin, _) => write!(f, "{origin}: ")?,
        }
        f.write_str(&self.text)
    }
}

/// Everything that is wrong with the configuration, never empty, in the order of the file, then
/// of the environment. `Display` gives one line per problem.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", lines(.0))]
pub struct ConfigErrors(Vec<Problem>);

impl ConfigErrors {
    /// What `sysexits.h` calls `EX_CONFIG`.
    pub const EXIT_CODE: u8 = 78;

    pub(super) fn new(mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self(problems)
    }

    /// The problems, in the order in which they are shown.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.0
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n")
}

/// A value as a message may show it: in quotes, on one line, at most 60 characters of it.
pub(super) fn quoted(text: &str) -> String {
    const MOST: usize = 60;
    let shown: String = text.chars().take(MOST).flat_map(char::escape_debug).collect();
    let more = if text.chars().nth(MOST).is_some() { "…" } else { "" };
    format!("\"{shown}{more}\"")
}
