//! The server's log. Invariant: a line is one JSON object without nesting: what a call's span knows, such as its `request_id`,
//! stands beside what the line itself says, which wins.

use std::fmt;
use std::io::IsTerminal as _;

use jiff::Timestamp;
use serde::Serializer as _;
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{JsonFields, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormattedFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt as lines};

/// Libraries that log more than an operator wants to read.
const LIBRARIES: [&str; 5] = ["h2", "hyper", "rustls", "tonic", "tower"];

/// Lines from `level` on: for people on a terminal, JSON for everybody else.
pub(super) fn start(level: LevelFilter) {
    let filter = Targets::new()
        .with_default(level)
        .with_targets(LIBRARIES.map(|library| (library, LevelFilter::WARN)));
    let layer = if std::io::stdout().is_terminal() {
        lines::layer().boxed()
    } else {
        lines::layer().fmt_fields(JsonFields::new()).event_format(Flat).boxed()
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}

struct Flat;

impl<S: Subscriber + for<'a> LookupSpan<'a>> FormatEvent<S, JsonFields> for Flat {
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonFields>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let what = event.metadata();
        let mut line = Line::default();
        line.add("timestamp", format!("{:.3}", Timestamp::now()).into());
        line.add("level", what.level().as_str().into());
        line.add("target", what.target().into());
        event.record(&mut line);
        // The innermost comes first.
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            let fields = extensions.get::<FormattedFields<JsonFields>>();
            let fields =
                fields.and_then(|text| serde_json::from_str::<Map<_, _>>(&text.fields).ok());
            for (name, value) in fields.into_iter().flatten() {
                line.add(&name, value);
            }
        }
        let mut json = serde_json::Serializer::new(Vec::new());
        let fields = line.0.iter().map(|(name, value)| (name, value));
        json.collect_map(fields).map_err(|_| fmt::Error)?;
        writeln!(out, "{}", String::from_utf8_lossy(&json.into_inner()))
    }
}

/// Its fields in the order in which they were said, none twice.
#[derive(Default)]
struct Line(Vec<(String, Value)>);

impl Line {
    fn add(&mut self, name: &str, value: Value) {
        if self.0.iter().all(|(known, _)| known != name) {
            self.0.push((name.to_owned(), value));
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field.name(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field.name(), value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.add(field.name(), value.into());
    }
}
