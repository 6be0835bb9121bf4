//! `ghost-agent check-config`: says whether the daemon would accept its configuration, and what
//! would be in force. Changes nothing.

use std::fmt::Write;

use super::docs::items;
use super::problem::Origin;
use super::reader::Effective;
use super::rules::{Raw, Scalar, Shape, Style};
use super::{Config, ConfigErrors, ConfigSource, DEFAULT_PATH, Loaded};

/// How much a successful check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Detail {
    /// One line, and the notes.
    Verdict,
    /// Also every value in force with its origin, as a YAML file that can be loaded again.
    Values,
}

/// What to print, and how to exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// For standard output; ends with a line break or is empty.
    pub stdout: String,
    /// For standard error; ends with a line break or is empty.
    pub stderr: String,
    /// 0, or [`ConfigErrors::EXIT_CODE`].
    pub exit_code: u8,
}

/// Checks the configuration from `source`.
#[must_use]
pub fn run(source: &ConfigSource, detail: Detail) -> Report {
    report(Config::load(source), detail)
}

fn report(loaded: Result<Loaded, ConfigErrors>, detail: Detail) -> Report {
    match loaded {
        Ok(loaded) => {
            let stdout = match detail {
                Detail::Verdict => format!("{}: OK\n", name(&loaded)),
                Detail::Values => shown(&loaded),
            };
            let stderr = loaded.notes.iter().map(|note| format!("note: {note}\n")).collect();
            Report { stdout, stderr, exit_code: 0 }
        }
        Err(errors) => Report {
            stdout: String::new(),
            stderr: format!("{errors}\n"),
            exit_code: ConfigErrors::EXIT_CODE,
        },
    }
}

/// What `check-config --show` prints of it: every value in force with its origin, as YAML.
#[must_use]
pub fn shown(loaded: &Loaded) -> String {
    format!("# {}: OK\n{}", name(loaded), values(&loaded.effective))
}

fn name(loaded: &Loaded) -> String {
    match &loaded.file {
        Some(path) => path.display().to_string(),
        None => format!("defaults ({DEFAULT_PATH} does not exist)"),
    }
}

fn values(effective: &[Effective]) -> String {
    let mut text = String::new();
    let mut section = "";
    for value in effective {
        if value.section != section {
            section = value.section;
            let _ = writeln!(text, "{section}:");
        }
        let Effective { name, shape, raw, origin, .. } = value;
        // Its value is without meaning, so there is none in force.
        if (section, *name) == ("agent", "version") {
            continue;
        }
        let origin = match origin {
            Origin::File { .. } | Origin::Environment(_) => origin.to_string(),
            Origin::Default => "default".to_owned(),
        };
        let _ = writeln!(text, "  {name}: {}  # {origin}", written(raw, *shape));
    }
    text
}

fn written(raw: &Raw, shape: Shape) -> String {
    let items = match (raw, shape) {
        (Raw::One(scalar), Shape::One) => return scalar_text(scalar),
        (Raw::One(Scalar { text, .. }), Shape::Many) => items(text).map(json).collect::<Vec<_>>(),
        (Raw::Many(items), Shape::One | Shape::Many) => {
            items.iter().map(|item| json(&item.text)).collect()
        }
    };
    format!("[{}]", items.join(", "))
}

/// Plain where YAML cannot misread it, else in quotes.
fn scalar_text(scalar: &Scalar) -> String {
    let text = &scalar.text;
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    match (scalar.style, plain) {
        (Style::Plain | Style::Flat, true) => text.clone(),
        (Style::Quoted, _) | (_, false) => json(text),
    }
}

/// JSON's strings are YAML's.
fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
