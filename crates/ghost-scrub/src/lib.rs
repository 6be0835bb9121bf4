//! Takes secrets out of texts that are to be shown to others.
//!
//! Invariants: a [`Scrubbed`] is made here only; scrubbing it again changes nothing; in it there is neither a secret that
//! the [`Scrubber`] was told, nor anything that looks like one, nor a character that commands a terminal. In doubt something
//! is taken out: a text that says too little is asked for again, one that says too much can't be taken back.
//!
//! Each detector looks at the same text and gives the ranges to be taken out; what two of them find is taken out once. This is
//! repeated until nothing is found, because what is taken out may bring together what was apart.

mod cloud_init;
mod control;
mod fields;
mod known;
mod private_keys;
#[cfg(test)]
mod tests;
mod tokens;
mod urls;

use std::fmt;
use std::ops::Range;

pub use control::misleads;

/// Stands where something was taken out. No ASCII secret is a part of it.
pub const MARK: &str = "███";

/// Rounds after which a text that still holds something is left out as a whole.
const ROUNDS: usize = 16;

/// How far a secret reaches whose end can't be found, in bytes.
const REACH: usize = 32 * 1024;

/// A text without secrets, of lines that end with `\n`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed(String);

impl Scrubbed {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its first `most` bytes at most, to the end of a line where that is possible, and a line that says what is missing.
    #[must_use]
    pub fn beginning(self, most: usize) -> Self {
        if self.0.len() <= most {
            return self;
        }
        let cut = self.0.floor_char_boundary(most);
        let (kept, _) = self.0.split_at(cut);
        let kept = kept.rfind('\n').map_or(kept, |at| kept.split_at(at).0);
        let left_out = self.0.len() - kept.len();
        Self(format!("{kept}\n[{left_out} further bytes are left out]\n"))
    }

    /// Its last `most` bytes at most, from the beginning of a line where that is possible, behind a line that says what is missing.
    #[must_use]
    pub fn end(self, most: usize) -> Self {
        if self.0.len() <= most {
            return self;
        }
        let cut = self.0.ceil_char_boundary(self.0.len() - most);
        let (_, kept) = self.0.split_at(cut);
        let kept = kept.split_once('\n').map_or(kept, |(_, rest)| rest);
        let left_out = self.0.len() - kept.len();
        Self(format!("[{left_out} bytes before this are left out]\n{kept}"))
    }
}

impl fmt::Display for Scrubbed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Takes secrets out of texts: those that it was told, and what looks like one.
#[derive(Clone, Default)]
pub struct Scrubber {
    /// In every spelling.
    known: Vec<String>,
}

impl fmt::Debug for Scrubber {
    /// Without the secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrubber").field("known", &self.known.len()).finish()
    }
}

impl Scrubber {
    /// That takes out these secrets wherever they are, beside what looks like one. A secret of less than 4 characters is not
    /// looked for: it would be found in every word.
    #[must_use]
    pub fn knowing<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        Self { known: known::spellings(secrets) }
    }

    /// The text without its secrets; [`MARK`] stands for each.
    #[must_use]
    pub fn scrub(&self, text: &str) -> Scrubbed {
        let mut text = control::harmless(text);
        for _ in 0..ROUNDS {
            let found = self.find(&text);
            if found.is_empty() {
                return Scrubbed(text);
            }
            text = without(&text, &found);
        }
        Scrubbed(format!("{MARK}\n"))
    }

    /// What is to be taken out, in order and apart from each other.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut found = known::find(&self.known, text);
        found.extend(private_keys::find(text));
        found.extend(tokens::find(text));
        found.extend(urls::find(text));
        found.extend(fields::find(text));
        found.extend(cloud_init::find(text));
        found.retain(|range| !is_taken_out(text.get(range.clone()).unwrap_or_default()));
        merged(found)
    }
}

fn is_taken_out(found: &str) -> bool {
    found.chars().all(|c| c == '█' || c.is_whitespace())
}

fn merged(mut found: Vec<Range<usize>>) -> Vec<Range<usize>> {
    found.sort_unstable_by_key(|range| range.start);
    let mut merged: Vec<Range<usize>> = Vec::with_capacity(found.len());
    for range in found {
        match merged.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            Some(_) | None => merged.push(range),
        }
    }
    merged
}

fn without(text: &str, found: &[Range<usize>]) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut from = 0;
    for range in found {
        kept.push_str(text.get(from..range.start).unwrap_or_default());
        kept.push_str(MARK);
        from = range.end;
    }
    kept.push_str(text.get(from..).unwrap_or_default());
    kept
}

/// Where the line that holds `at` begins.
fn line_start(text: &str, at: usize) -> usize {
    text.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1)
}

/// Where the line that holds `at` ends.
fn line_end(text: &str, at: usize) -> usize {
    text.get(at..).and_then(|rest| rest.find('\n')).map_or(text.len(), |end| at + end)
}

/// At most [`REACH`] bytes behind `from`.
fn reach(text: &str, from: usize) -> usize {
    text.ceil_char_boundary(from.saturating_add(REACH))
}

/// The line that was looked at last: of a caller that goes through a text, each is looked at once.
#[derive(Debug, Default)]
struct Line {
    range: Range<usize>,
    /// Whether it is an object of JSON, as a line of the log is.
    json: bool,
}

impl Line {
    /// The line that holds `at`.
    fn at(&mut self, text: &str, at: usize) -> &Self {
        if !self.range.contains(&at) {
            self.range = line_start(text, at)..line_end(text, at);
            let line = text.get(self.range.clone()).unwrap_or_default();
            self.json = line.trim_start().starts_with('{');
        }
        self
    }
}

/// Where the string of JSON that holds `from` ends; the end of the line at the latest.
fn json_string_end(text: &str, from: usize, line: &Line) -> usize {
    let mut escaped = false;
    for (at, byte) in text.as_bytes().iter().enumerate().take(line.range.end).skip(from) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at,
            _ => {}
        }
    }
    line.range.end
}
