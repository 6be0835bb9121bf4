//! The table of keys for human eyes: the documentation's tables and the example file.

use std::fmt::Write;

use super::table::{Fallback, Key, keys, sections};

/// The comment before the generated part of docs/configuration.md.
pub const BEGIN: &str = "<!-- keys: begin, written by the tests of ghost-agent -->";

/// The comment after it.
pub const END: &str = "<!-- keys: end -->";

/// One Markdown table per section: key, default, allowed values, meaning.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::new();
    for section in sections() {
        let about = section.doc.trim();
        let _ = write!(text, "### {}\n\n{about}\n\n", section.name);
        text += "| Key | Default | Allowed | Meaning |\n|---|---|---|---|\n";
        for key in keys().iter().filter(|key| key.section == section.name) {
            let Key { name, allowed, doc, .. } = key;
            let fallback = match key.fallback {
                Fallback::Text(_) => format!("`{}`", key.fallback_shown()),
                Fallback::HostName => key.fallback_shown().to_owned(),
            };
            let _ = writeln!(text, "| `{name}` | {fallback} | {allowed} | {doc} |");
        }
        text.push('\n');
    }
    text
}

/// An agent.yaml with every key commented out at its default.
#[must_use]
pub fn example() -> String {
    let mut text = "\
# Ghost Agent's configuration: /etc/ghost/agent.yaml
#
# Every line that begins with `#` and a key shows that key's default; remove the `#` to change it.
# Check the file with: ghost-agent check-config
# Every key can also be set in the environment, as GHOST_SECTION__KEY (two underscores).
# The enrolment secret, GHOST_API_KEY, is read from the environment only, never from here.
"
    .to_owned();
    for section in sections() {
        let _ = write!(text, "\n#{}\n{}:\n", section.doc, section.name);
        for key in keys().iter().filter(|key| key.section == section.name && !is_ignored(key)) {
            comment(&mut text, &key.doc);
            comment(&mut text, &format!("Allowed: {}", key.allowed));
            let _ = writeln!(text, "  #{}: {}", key.name, example_value(key));
        }
    }
    text
}

fn is_ignored(key: &Key) -> bool {
    key.path() == "agent.version"
}

fn example_value(key: &Key) -> String {
    match (key.fallback, key.shape) {
        (Fallback::HostName, _) => "my-pc  # the default is the host's name".to_owned(),
        (Fallback::Text(_), super::rules::Shape::One) => key.fallback_shown().to_owned(),
        (Fallback::Text(text), super::rules::Shape::Many) => {
            let items: Vec<String> = items(text).map(|item| format!("\"{item}\"")).collect();
            format!("[{}]", items.join(", "))
        }
    }
}

/// What a list in one text has.
pub(super) fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty())
}

/// Writes `text` as comment lines of at most 100 characters.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("  #");
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > 100 {
            out.push_str(&line);
            out.push('\n');
            line = String::from("  #");
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
