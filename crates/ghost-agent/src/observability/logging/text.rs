//! A line for human eyes. Invariant: what a value says can't be taken for another value or another line.

use std::fmt::Write as _;

use tracing::Level;

use super::escape::{clipped, commands, flat};
use super::json::level;
use super::line::{Line, Value};

/// Whether the reader's terminal shows colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Palette {
    Plain,
    Coloured,
}

/// Writes `line` and a line feed to `out`; the frames of a backtrace follow, indented.
pub(super) fn write(line: &Line<'_>, palette: Palette, out: &mut String) {
    let (dim, colour, off) = match palette {
        Palette::Plain => ("", "", ""),
        Palette::Coloured => ("\x1b[2m", colour(line.level), "\x1b[0m"),
    };
    let (at, level, target) = (line.at, level(line.level), line.target);
    // Writing to a string does not fail.
    let _ = write!(out, "{at:.3} {colour}{level:>5}{off} {dim}{target}:{off} ");
    body(line, out);
    for frame in &line.event.fault.backtrace {
        out.push_str("\n        at ");
        escaped(out, frame, &[]);
    }
    out.push('\n');
}

/// What happened, in one line without its time and its level.
pub(super) fn body(line: &Line<'_>, out: &mut String) {
    escaped(out, &line.event.message, &[]);
    for field in line.fields() {
        let _ = write!(out, " {}=", field.name);
        match &field.value {
            Value::Text(value) => text(out, value),
            Value::Bool(value) => drop(write!(out, "{value}")),
            Value::Int(value) => drop(write!(out, "{value}")),
            Value::Uint(value) => drop(write!(out, "{value}")),
            Value::Float(value) => drop(write!(out, "{value}")),
        }
    }
    for cause in line.event.fault.chain.iter().skip(1) {
        out.push_str(" (cause: ");
        escaped(out, cause, &[]);
        out.push(')');
    }
}

fn colour(level: Level) -> &'static str {
    match level {
        Level::ERROR => "\x1b[31m",
        Level::WARN => "\x1b[33m",
        Level::INFO => "\x1b[32m",
        Level::DEBUG | Level::TRACE => "\x1b[34m",
    }
}

fn text(out: &mut String, value: &str) {
    let bare = |c: char| !commands(c) && !matches!(c, ' ' | '"' | '=' | '\\');
    if !value.is_empty() && value.chars().all(bare) {
        let (value, more) = clipped(value);
        out.push_str(value);
        return told(out, more);
    }
    out.push('"');
    escaped(out, value, &['"', '\\']);
    out.push('"');
}

fn escaped(out: &mut String, value: &str, special: &'static [char]) {
    let (value, more) = clipped(value);
    for part in flat(value, special) {
        match part {
            Ok(harmless) => out.push_str(harmless),
            Err(other) => out.extend(other.escape_default()),
        }
    }
    told(out, more);
}

fn told(out: &mut String, more: usize) {
    if more > 0 {
        let _ = write!(out, "… ({more} bytes more)");
    }
}
