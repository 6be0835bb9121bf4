//! Logs: structured lines on standard output, JSON or text.

use std::io::IsTerminal as _;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer as _, fmt};

use crate::config::{LogFormat, LogLevel, Logging};

/// Libraries that log more than an operator wants to read.
const LIBRARIES: [&str; 6] = ["h2", "hyper", "reqwest", "rustls", "tonic", "tower"];

/// Begins to log. Called once, before anything else is started.
pub fn init(logging: &Logging) {
    let level = match logging.level {
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
    };
    // The libraries' own lines are noise below a warning.
    let filter = Targets::new()
        .with_default(level)
        .with_targets(LIBRARIES.map(|library| (library, level.min(LevelFilter::WARN))));
    let layer = match logging.format {
        LogFormat::Json => fmt::layer().json().flatten_event(true).with_span_list(false).boxed(),
        LogFormat::Text => fmt::layer().with_ansi(std::io::stdout().is_terminal()).boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
}
