//! A line before it is written. Invariant: no two of its fields have one name; the event's win over the spans', an inner
//! span's over an outer's, and none has a name of the line's own.

use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

use jiff::Timestamp;
use tracing::Level;
use tracing::field::{Field as Name, Visit};

use super::fault::Fault;

/// The value of a field.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
}

/// A field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Field {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// What an event, or a span, says.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) message: String,
    pub(super) fields: Vec<Field>,
    pub(super) fault: Fault,
}

impl Said {
    fn put(&mut self, name: &Name, value: Value) {
        self.add(own(name.name()), value);
    }

    /// Names the class of its error, unless it says another.
    pub(super) fn classify(&mut self) {
        if let Some(code) = self.fault.code
            && !self.fields.iter().any(|field| field.name == "error_code")
        {
            self.add("error_code", Value::Text(code.to_owned()));
        }
    }

    /// Adds a field, or replaces the one of this name.
    pub(super) fn add(&mut self, name: &'static str, value: Value) {
        match self.fields.iter_mut().find(|field| field.name == name) {
            Some(field) => field.value = value,
            None => self.fields.push(Field { name, value }),
        }
    }
}

/// The name, unless the line has a field of its own by it.
fn own(name: &'static str) -> &'static str {
    match name {
        "timestamp" => "timestamp_",
        "level" => "level_",
        "target" => "target_",
        "error_chain" => "error_chain_",
        "backtrace" => "backtrace_",
        _ => name.strip_prefix("r#").unwrap_or(name),
    }
}

impl Visit for Said {
    fn record_debug(&mut self, name: &Name, value: &dyn Debug) {
        let text = format!("{value:?}");
        match name.name() {
            "message" => self.message = text,
            _ => self.put(name, Value::Text(text)),
        }
    }

    fn record_str(&mut self, name: &Name, value: &str) {
        match name.name() {
            "message" => value.clone_into(&mut self.message),
            _ => self.put(name, Value::Text(value.to_owned())),
        }
    }

    fn record_bool(&mut self, name: &Name, value: bool) {
        self.put(name, Value::Bool(value));
    }

    fn record_i64(&mut self, name: &Name, value: i64) {
        self.put(name, Value::Int(value));
    }

    fn record_u64(&mut self, name: &Name, value: u64) {
        self.put(name, Value::Uint(value));
    }

    fn record_f64(&mut self, name: &Name, value: f64) {
        self.put(name, Value::Float(value));
    }

    fn record_error(&mut self, name: &Name, value: &(dyn Error + 'static)) {
        self.put(name, Value::Text(value.to_string()));
        self.fault = Fault::of(value);
    }
}

/// A line.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) at: Timestamp,
    pub(super) level: Level,
    pub(super) target: &'a str,
    /// The source file and the line in it.
    pub(super) place: Option<(&'a str, u32)>,
    pub(super) event: Said,
    /// The spans' fields, those of the innermost first.
    pub(super) spans: Vec<Arc<Vec<Field>>>,
}

impl Line<'_> {
    /// The fields in the order in which they are written: first what a line is looked for by.
    pub(super) fn fields(&self) -> Vec<&Field> {
        let mut fields: Vec<&Field> = Vec::with_capacity(16);
        let spans = self.spans.iter().flat_map(|fields| fields.iter());
        for field in self.event.fields.iter().chain(spans) {
            if !fields.iter().any(|known| known.name == field.name) {
                fields.push(field);
            }
        }
        fields.sort_by_key(|field| rank(field.name));
        fields
    }
}

fn rank(name: &str) -> usize {
    const FIRST: [&str; 5] = ["request_id", "trace_id", "vm_id", "vm_name", "error_code"];
    FIRST.iter().position(|first| *first == name).unwrap_or(FIRST.len())
}
