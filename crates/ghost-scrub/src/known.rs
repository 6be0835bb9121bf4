//! Secrets that are known at run time, in the spellings in which a document may hold them.

use std::fmt::Write as _;
use std::ops::Range;

use crate::control;

/// Shorter ones would be found in every word.
const SHORTEST: usize = 4;

/// Each secret as it is, and as JSON, XML and URLs spell it.
pub(crate) fn spellings<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for secret in secrets.into_iter().map(control::harmless) {
        if secret.chars().count() < SHORTEST || secret.chars().all(|c| c == '█') {
            continue;
        }
        all.extend([json(&secret), xml(&secret), percent(&secret), secret]);
    }
    all.sort_unstable();
    all.dedup();
    all
}

/// Where they are.
pub(crate) fn find(known: &[String], text: &str) -> Vec<Range<usize>> {
    let of = |secret: &String| -> Vec<Range<usize>> {
        let found = text.match_indices(secret.as_str());
        found.map(|(at, found)| at..at + found.len()).collect()
    };
    known.iter().flat_map(of).collect()
}

fn json(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

fn xml(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&apos;")
}

/// RFC 3986, section 2.3: all but the unreserved characters.
fn percent(text: &str) -> String {
    let mut spelled = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            spelled.push(char::from(byte));
        } else {
            // Writing to a String can't fail.
            let _ = write!(spelled, "%{byte:02X}");
        }
    }
    spelled
}
