//! Logs: lines in JSON or text, on standard output, in systemd's journal, or in a file that is rotated.
//!
//! Invariant: to log costs the caller no wait; what can't be written is counted, and a line says so when it can be again.
//!
//! ```text
//! tracing ▶ level ▶ layer (who logs writes his line) ┬▶ queue ▶ thread ▶ standard output, or the journal
//!                                                    ├▶ queue ▶ thread ▶ file ▶ gzip
//!                                                    └▶ ring, for the debug bundle
//! ```

mod escape;
mod fault;
mod file;
mod handle;
mod journal;
mod json;
mod layer;
mod level;
mod line;
mod panics;
mod place;
mod queue;
mod ring;
mod start;
mod stdout;
#[cfg(test)]
mod tests;
mod text;

use std::sync::Arc;

use ghost_host::SystemClock;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Layer, Registry};

pub use ghost_core::domain::cause;
pub use handle::{Hangups, LogHandle};
pub use level::LevelNow;
pub use place::{LogError, look};

use crate::config::Logging;
use start::{Surroundings, start};

/// A further layer, such as that which exports traces; it brings its own filter.
pub type MoreLayers = Box<dyn Layer<Registry> + Send + Sync>;

/// Begins to log, panics included. Called once, before anything else is started.
///
/// # Errors
/// If the log file can't be opened, with the remedy.
pub fn init(logging: &Logging, more: Option<MoreLayers>) -> Result<LogHandle, LogError> {
    let clock = Arc::new(SystemClock::new());
    let (handle, lines) = start(logging, &Surroundings::of_process(), clock)?;
    tracing_subscriber::registry().with(more).with(lines).init();
    panics::log(handle.clone());
    Ok(handle)
}
