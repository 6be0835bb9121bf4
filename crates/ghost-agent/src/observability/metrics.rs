//! Everything that is counted, for Prometheus.
//!
//! Invariant: a scrape reads memory only: it waits neither for libvirt nor for a disk or the network, and what it reads
//! waits for it no longer than for any other reader.
//!
//! ```text
//!   calls, use cases, libvirt's calls ──counted as they happen──▶ counted ─┐
//!   registry, link, image cache, … ──looked at, once attached──▶ collect ──┼─▶ page ──▶ OpenMetrics ──▶ classic text
//!   /proc/self ────────────────────────────────────────────────▶ process ──┘
//! ```

mod catalog;
mod collect;
mod counted;
mod format;
pub mod images;
mod page;
mod process;
pub mod sources;
#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ghost_core::ports::{Measured, Meter};
use ghost_libvirt::{CallObserver, CallOutcome};
use jiff::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text;
use prometheus_client::registry::Registry;
use tonic::Code;

use counted::Counted;
pub(crate) use counted::code_name;
pub use format::Format;
use page::Page;
pub use sources::{LogCounts, Look, Sources};

/// The `Content-Type` of [`Metrics::render`] in [`Format::OpenMetrics`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Which limit a call ran into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limited {
    /// That of reads.
    Read,
    /// That of changes.
    Change,
}

impl Limited {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Change => "change",
        }
    }
}

/// All metrics.
#[derive(Debug)]
pub struct Metrics {
    shared: Arc<Shared>,
    registry: Registry,
    /// Of the last answer, in bytes.
    length: AtomicUsize,
}

#[derive(Debug)]
struct Shared {
    counted: Counted,
    sources: OnceLock<Sources>,
    started: Timestamp,
}

impl Default for Metrics {
    fn default() -> Self {
        let (counted, sources) = (Counted::default(), OnceLock::new());
        let shared = Arc::new(Shared { counted, sources, started: Timestamp::now() });
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Arc::clone(&shared)));
        Self { shared, registry, length: AtomicUsize::default() }
    }
}

impl Collector for Shared {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        process::encode(&mut page, collect::seconds(self.started))?;
        self.counted.encode(&mut page)?;
        match self.sources.get() {
            Some(sources) => collect::encode(sources, &mut page),
            // Nobody is answered yet.
            None => page.one(&catalog::READY, 0.0),
        }
    }
}

impl Metrics {
    /// Lets the metrics see the parts of the daemon, once they are there. Only the first call counts.
    pub fn attach(&self, sources: Sources) {
        // They are put together once.
        let _ = self.shared.sources.set(sources);
    }

    /// All metrics as text. Takes about 10 µs and 1 µs for each series.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        let mut text = String::with_capacity(self.length.load(Ordering::Relaxed));
        // Nothing that is written to here, or asked, fails.
        if text::encode(&mut text, &self.registry).is_err() {
            tracing::error!("the metrics can't be rendered: this is a bug of the agent");
        }
        self.length.store(text.len() + text.len() / 8, Ordering::Relaxed);
        format.of_open_metrics(text)
    }

    /// The answer to a scrape that came with this `Accept` header: body and `Content-Type`.
    #[must_use]
    pub fn answer(&self, accept: Option<&str>) -> (String, &'static str) {
        let format = Format::of(accept);
        (self.render(format), format.content_type())
    }

    /// Counts a call that has ended. `rpc` is one of the contract's names, or the one for all others. `took` is what the answer
    /// took; `None` for a stream, which lasts as long as there is something to tell, and for what no handler saw.
    pub fn call_ended(&self, rpc: &'static str, code: Code, took: Option<Duration>) {
        self.shared.counted.call_ended(rpc, code, took);
    }

    /// Counts a call that was refused because there were too many.
    pub fn rate_limited(&self, limit: Limited) {
        self.shared.counted.rate_limited(limit);
    }
}

impl Meter for Metrics {
    fn note(&self, measured: Measured) {
        self.shared.counted.note(measured);
    }
}

impl CallObserver for Metrics {
    fn call_ended(&self, call: &'static str, outcome: CallOutcome, took: Duration) {
        self.shared.counted.libvirt_call_ended(call, outcome, took);
    }
}
