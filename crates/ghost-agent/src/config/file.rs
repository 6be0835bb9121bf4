//! The file. Invariant: every key in it is one of the table's, once, and no more than 1 MiB of
//! UTF-8 is read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::nearest::nearest;
use super::problem::{Origin, Problem, quoted};
use super::reader::Reader;
use super::table::{Key, keys, sections};
use super::tree::{self, Body, Branch, Leaf, Value};

/// Largest file that is read, in bytes.
const LARGEST: u64 = 1 << 20;

/// Whether the file may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Absence {
    /// Somebody named the file.
    Refused,
    /// It is the default path.
    Accepted,
}

/// The file's text; `None` if it is absent and may be.
pub(super) fn text(path: &Path, absence: Absence) -> Result<Option<String>, Problem> {
    let bytes = match bytes(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && absence == Absence::Accepted => {
            return Ok(None);
        }
        Err(error) => return Err(Problem::of_file(path, unreadable(path, &error))),
    };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LARGEST {
        return Err(Problem::of_file(path, "is larger than 1 MiB; a configuration has a few KiB"));
    }
    String::from_utf8(bytes).map(Some).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes().iter().take(good).filter(|byte| **byte == b'\n').count() + 1;
        Problem::of_line(path, line, "is not UTF-8 text; save the file as UTF-8")
    })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    // Opening a FIFO that nobody writes to would never return.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::NotFound => "name an existing file with --config, or leave --config out",
        io::ErrorKind::PermissionDenied => "let the user of the agent read it, or run as that user",
        _ => "name a readable YAML file with --config",
    };
    match error.kind() {
        io::ErrorKind::NotFound => format!("does not exist; {remedy}"),
        _ => format!("cannot read {}: {error}; {remedy}", quoted(&path.display().to_string())),
    }
}

/// Hands the values of the file's `text` to the reader, and notes what is wrong with its form.
/// Says whether all of the text could be read.
pub(super) fn give(path: &Path, text: &str, reader: &mut Reader<'_>) -> bool {
    let tree = tree::parse(text.strip_prefix('\u{feff}').unwrap_or(text));
    let at = |line| Origin::File { path: path.to_owned(), line };
    let whole = tree.problems.is_empty();
    for (line, problem) in tree.problems {
        reader.problems.push(Problem::of_line(path, line, problem));
    }
    let keys = keys();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for Branch { name: section, line, body } in tree.sections {
        let known: Vec<&Key> = keys.iter().filter(|key| key.section == section).collect();
        if known.is_empty() {
            reader.problems.push(Problem::of_line(path, line, unknown_section(&section, &keys)));
            continue;
        }
        let Body::Leaves(leaves) = body else {
            let problem =
                format!("is no section; put its keys on lines of their own below `{section}:`");
            reader.problems.push(Problem::of_key(at(line), &section, problem));
            continue;
        };
        for Leaf { name, line, value } in leaves {
            let full = shown(&format!("{section}.{name}"));
            if let Some(first) = seen.insert(full.clone(), line) {
                let problem = format!("appears again; it was set on line {first}");
                reader.problems.push(Problem::of_key(at(line), &full, problem));
                continue;
            }
            match (known.iter().find(|key| key.name == name), value) {
                (Some(key), Value::Raw(raw)) => reader.give(key, raw, at(line)),
                (Some(key), Value::Wrong(why)) => {
                    let problem = format!(
                        "{why} (allowed: {}; default {})",
                        key.allowed,
                        key.fallback_shown()
                    );
                    reader.problems.push(Problem::of_key(at(line), &full, problem));
                }
                (Some(_), Value::Noted) => {}
                (None, _) => {
                    let problem = unknown_key(&section, &name, &keys);
                    reader.problems.push(Problem::of_key(at(line), &full, problem));
                }
            }
        }
    }
    whole
}

/// A name from the file as a message may show it.
fn shown(name: &str) -> String {
    quoted(name).trim_matches('"').to_owned()
}

fn unknown_section(name: &str, keys: &[Key]) -> String {
    let homes: Vec<String> = keys.iter().filter(|key| key.name == name).map(Key::path).collect();
    let names: Vec<&str> = sections().iter().map(|section| section.name).collect();
    let hint = match nearest(name, names.iter().copied()) {
        _ if !homes.is_empty() => format!("did you mean {}?", homes.join(" or ")),
        Some(near) => format!("did you mean {near}?"),
        None => format!("there are {}", names.join(", ")),
    };
    format!("unknown section {}; {hint}", shown(name))
}

/// What to say about a key that the table does not have.
pub(super) fn unknown_key(section: &str, name: &str, keys: &[Key]) -> String {
    if name == "api_key" {
        return "the secret does not belong into a file; set it in the environment as GHOST_API_KEY"
            .to_owned();
    }
    let here = || keys.iter().filter(|key| key.section == section).map(|key| key.name);
    let elsewhere: Vec<String> =
        keys.iter().filter(|key| key.name == name).map(Key::path).collect();
    let hint = match nearest(name, here()) {
        Some(near) => format!("did you mean {section}.{near}?"),
        None if !elsewhere.is_empty() => format!("did you mean {}?", elsewhere.join(" or ")),
        None => format!("{section} has {}", here().collect::<Vec<_>>().join(", ")),
    };
    format!("unknown key; {hint}")
}
