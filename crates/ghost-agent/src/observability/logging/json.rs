//! A line as one JSON object. Invariant: one line, no two of one key, and no character in it that a terminal would act on.

use std::fmt::Write as _;

use tracing::Level;

use super::escape::{clipped, flat};
use super::line::{Line, Value};

/// Writes `line` and a line feed to `out`.
pub(super) fn write(line: &Line<'_>, out: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(out, "{{\"timestamp\":\"{:.3}\",\"level\":\"{}\"", line.at, level(line.level));
    text(out, "target", line.target);
    text(out, "message", &line.event.message);
    for field in line.fields() {
        key(out, field.name);
        match &field.value {
            Value::Text(value) => string(out, value),
            value => plain(out, value),
        }
    }
    list(out, "error_chain", &line.event.fault.chain);
    list(out, "backtrace", &line.event.fault.backtrace);
    out.push_str("}\n");
}

/// For the fields and for eyes.
pub(super) fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "ERROR",
        Level::WARN => "WARN",
        Level::INFO => "INFO",
        // The filter lets no trace pass.
        Level::DEBUG | Level::TRACE => "DEBUG",
    }
}

fn plain(out: &mut String, value: &Value) {
    let _ = match value {
        Value::Bool(value) => write!(out, "{value}"),
        Value::Int(value) => write!(out, "{value}"),
        Value::Uint(value) => write!(out, "{value}"),
        // JSON has no other way to say that there is no number.
        Value::Float(value) if !value.is_finite() => write!(out, "null"),
        Value::Float(value) => write!(out, "{value}"),
        Value::Text(value) => write!(out, "{value}"),
    };
}

fn key(out: &mut String, name: &str) {
    out.push(',');
    string(out, name);
    out.push(':');
}

fn text(out: &mut String, name: &str, value: &str) {
    key(out, name);
    string(out, value);
}

fn list(out: &mut String, name: &str, values: &[String]) {
    if values.is_empty() {
        return;
    }
    key(out, name);
    for (n, value) in values.iter().enumerate() {
        out.push(if n == 0 { '[' } else { ',' });
        string(out, value);
    }
    out.push(']');
}

fn string(out: &mut String, value: &str) {
    let (value, more) = clipped(value);
    out.push('"');
    for part in flat(value, &['"', '\\']) {
        match part {
            Ok(harmless) => out.push_str(harmless),
            Err('"') => out.push_str("\\\""),
            Err('\\') => out.push_str("\\\\"),
            Err('\n') => out.push_str("\\n"),
            Err(other) => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    if more > 0 {
        let _ = write!(out, "… ({more} bytes more)");
    }
    out.push('"');
}
