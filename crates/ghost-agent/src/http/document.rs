//! The JSON of `/healthz`: the requirement's fields (`status`, `version`, `timestamp`, `checks`, `metrics`), and since when.

use jiff::Timestamp;
use serde_json::{Map, Number, Value, json};

use crate::health::{Check, Health};

/// As text, with a line feed at its end.
#[must_use]
pub fn of(health: &Health) -> String {
    let checks = health.checks.iter().map(|check| (check.name.to_owned(), of_check(check)));
    let metrics = health.metrics.iter().map(|(name, value)| ((*name).to_owned(), number(*value)));
    let document = json!({
        "status": health.status.as_str(),
        "since": moment(health.since),
        "version": health.version,
        "timestamp": moment(health.timestamp),
        "started_at": moment(health.started_at),
        "ready": health.ready,
        "checks": checks.collect::<Map<_, _>>(),
        "metrics": metrics.collect::<Map<_, _>>(),
    });
    format!("{document:#}\n")
}

fn of_check(check: &Check) -> Value {
    let mut fields = Map::new();
    fields.insert("status".to_owned(), check.status.as_str().into());
    for (name, text) in [("message", &check.message), ("remedy", &check.remedy)] {
        if !text.is_empty() {
            fields.insert(name.to_owned(), text.as_str().into());
        }
    }
    fields.insert("since".to_owned(), moment(check.since).into());
    fields.insert("checked_at".to_owned(), moment(check.checked_at).into());
    Value::Object(fields)
}

/// RFC 3339, UTC, with milliseconds.
fn moment(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// Whole numbers without a point, others with three decimals at most.
fn number(value: f64) -> Value {
    let rounded = (value * 1000.0).round() / 1000.0;
    #[expect(clippy::cast_possible_truncation, reason = "whole, and below 2^53")]
    let number = match rounded.fract() == 0.0 && rounded.abs() < 9e15 {
        true => Some(Number::from(rounded as i64)),
        false => Number::from_f64(rounded),
    };
    number.map_or(Value::Null, Value::Number)
}
