//! Entries of the journal, as `journalctl -o json` prints them.

use anyhow::Context as _;
use serde_json::{Map, Value};

/// An entry: each field by its name.
pub type Entry = Map<String, Value>;

/// A field's text; empty if the entry has none.
#[must_use]
pub fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// One entry a line.
pub(super) fn entries(lines: &str) -> anyhow::Result<Vec<Entry>> {
    lines.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}
