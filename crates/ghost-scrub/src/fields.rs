//! `key: value`, `key=value` and `<key>value</key>` where the key says that the value is secret; in YAML, JSON, XML, headers,
//! environments and sentences.

use std::ops::Range;

use crate::{Line, json_string_end, line_start, reach};

/// Ends of the names of secret values, in lower case and without `_`, `-`, `.`; also with an `s` behind.
const SECRET: [&str; 28] = [
    "password",
    "dbpass",
    "sshpass",
    "sessionid",
    "connectionstring",
    "passwd",
    "passphrase",
    "pwd",
    "psk",
    "secret",
    "token",
    "apikey",
    "authkey",
    "accesskey",
    "privatekey",
    "secretkey",
    "sessionkey",
    "signingkey",
    "encryptionkey",
    "sharedkey",
    "credential",
    "cookie",
    "authorization",
    "userdata",
    "vendordata",
    "usercontent",
    "chpasswd",
    // What guests print is their owner's.
    "console",
];

/// Whole names of secret values, spelled likewise.
const WHOLE: [&str; 5] = ["pass", "pw", "pin", "auth", "jwt"];

/// Longest name that is looked at, in bytes.
const NAME: usize = 128;

/// Each value that its key calls secret.
pub(crate) fn find(text: &str) -> Vec<Range<usize>> {
    let (mut found, mut line, mut next) = (Vec::new(), Line::default(), 0);
    for (at, separator) in text.bytes().enumerate() {
        let kind = match separator {
            // What is in a value that is taken out needs no further look.
            _ if at < next => continue,
            b':' | b'=' => Separator::Sign,
            b'>' => Separator::Tag,
            b' ' => Separator::Blank,
            _ => continue,
        };
        if let Some(range) = behind(text, at, kind, &mut line) {
            next = range.end;
            found.push(range);
        }
    }
    found
}

/// What stands between a name and its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Separator {
    /// `:` or `=`.
    Sign,
    /// The `>` of `<name>`.
    Tag,
    /// Of `--name value`.
    Blank,
}

fn behind(text: &str, at: usize, separator: Separator, line: &mut Line) -> Option<Range<usize>> {
    let (name, before) = name_before(text, at, separator);
    if name.is_empty() || !is_secret(name) {
        return None;
    }
    match separator {
        Separator::Tag => (before != Some('/')).then(|| at + 1..element_end(text, at + 1)),
        Separator::Blank => name.starts_with("--").then(|| at..word_end(text, at)),
        Separator::Sign => {
            // A path of Rust's, or a URL.
            let rest = text.get(at + 1..)?;
            let joined = rest.starts_with(':') || rest.starts_with("//");
            (!joined).then(|| value(text, at + 1, line))
        }
    }
}

fn is_secret(name: &str) -> bool {
    let plain: String = name
        .chars()
        .filter(|c| !matches!(c, '_' | '-' | '.'))
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let singular = plain.strip_suffix('s').unwrap_or(&plain);
    WHOLE.contains(&plain.as_str())
        || SECRET.iter().any(|secret| plain.ends_with(secret) || singular.ends_with(secret))
}

/// The name that ends before the separator, without its quotes, and what stands before that.
fn name_before(text: &str, at: usize, separator: Separator) -> (&str, Option<char>) {
    let before = text.get(text.ceil_char_boundary(at.saturating_sub(NAME))..at).unwrap_or_default();
    let before = match separator {
        Separator::Tag | Separator::Blank => before,
        Separator::Sign => {
            before.trim_end_matches([' ', '\t']).trim_end_matches(['"', '\'', '\\', ']'])
        }
    };
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let name = before.trim_end_matches(of_a_name);
    (before.get(name.len()..).unwrap_or_default(), name.chars().next_back())
}

fn element_end(text: &str, from: usize) -> usize {
    let end = text.get(from..).and_then(|rest| rest.find('<')).map_or(text.len(), |end| from + end);
    end.min(reach(text, from))
}

fn word_end(text: &str, from: usize) -> usize {
    let rest = text.get(from..).unwrap_or_default();
    let word = rest.trim_start_matches(' ');
    let blanks = rest.len() - word.len();
    from + blanks + word.find(char::is_whitespace).unwrap_or(word.len())
}

/// The value behind a separator; more than it where its end can't be told.
fn value(text: &str, from: usize, line: &mut Line) -> Range<usize> {
    let rest = text.get(from..).unwrap_or_default();
    let from = from + rest.len() - rest.trim_start_matches([' ', '\t']).len();
    match text.as_bytes().get(from) {
        Some(quote @ (b'"' | b'\'')) => from + 1..quoted_end(text, from + 1, *quote),
        Some(b'[' | b'{') => from..bracket_end(text, from),
        Some(b'\n') | None => from..block_end(text, from, from),
        Some(_) => {
            let line = line.at(text, from);
            match line.json {
                true => from..json_string_end(text, from, line),
                false => from..block_end(text, from, line.range.end),
            }
        }
    }
}

/// A value of several lines (YAML, "Block Scalar Styles"; folded headers): those that are indented deeper than its key; of one
/// that is a list, also those with a dash.
fn block_end(text: &str, from: usize, line: usize) -> usize {
    let start = line_start(text, from);
    let key = text.get(start..from).unwrap_or_default();
    let own = indent(key);
    let listed = from == line && !key.trim_start().starts_with('-');
    let mut end = line;
    while let Some(rest) = text.get(end + 1..).filter(|rest| !rest.is_empty()) {
        let next = rest.split('\n').next().unwrap_or_default();
        let item = listed && indent(next) == own && next.trim_start().starts_with('-');
        if !next.trim().is_empty() && indent(next) <= own && !item {
            break;
        }
        end += 1 + next.len();
    }
    end
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// The closing quote, or what is joined to it without a blank; the end of the reach if there is none.
fn quoted_end(text: &str, from: usize, quote: u8) -> usize {
    let (bytes, limit) = (text.as_bytes(), reach(text, from));
    let mut at = from;
    while at < limit {
        match bytes.get(at) {
            Some(b'\\') => at += 2,
            // YAML doubles a single quote inside, SQL both.
            Some(b) if *b == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
            Some(b) if *b == quote => {
                let joined = bytes.get(at + 1..).unwrap_or_default();
                let joined = joined.iter().take_while(|b| b.is_ascii_alphanumeric()).count();
                return if joined == 0 { at } else { at + 1 + joined };
            }
            Some(_) => at += 1,
            None => break,
        }
    }
    limit
}

/// Behind the bracket that closes the one at `from`; the end of the reach if there is none.
fn bracket_end(text: &str, from: usize) -> usize {
    let limit = reach(text, from);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.as_bytes().iter().enumerate().take(limit).skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => quoted = !quoted,
            b'[' | b'{' if !quoted => depth += 1,
            b']' | b'}' if !quoted => {
                depth -= 1;
                if depth == 0 {
                    return at + 1;
                }
            }
            _ => {}
        }
    }
    limit
}
