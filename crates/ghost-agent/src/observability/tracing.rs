//! Traces, for a collector of OpenTelemetry. Invariant: nobody waits for the collector: what it does not take in time is dropped
//! and counted, and an outage costs one line in the log.
//!
//! ```text
//! span ends ──▶ bounded queue ──▶ batches ──▶ OTLP over gRPC ──▶ collector
//! ```
//! Spans are those of the log: `call`, `step`, `libvirt`, `control plane`. What they are called at the collector is decided
//! in `semantics`, so that the log's lines need no second set of fields.

#[cfg(feature = "otlp")]
mod export;
#[cfg(not(feature = "otlp"))]
mod off;
#[cfg(feature = "otlp")]
mod otlp;
#[cfg(feature = "otlp")]
mod semantics;
#[cfg(feature = "otlp")]
#[cfg(test)]
mod tests;

#[cfg(feature = "otlp")]
pub use export::{Exporting, Running};
#[cfg(not(feature = "otlp"))]
pub use off::{Exporting, Running, layer};
#[cfg(not(feature = "otlp"))]
pub(crate) use off::{continue_from, ended, trace_id, traceparent};
#[cfg(feature = "otlp")]
pub use otlp::layer;
#[cfg(feature = "otlp")]
pub(crate) use otlp::{continue_from, ended, trace_id, traceparent};

use uuid::Uuid;

/// Whose spans they are, as the collector is told.
#[derive(Debug, Clone)]
pub struct Source {
    /// The agent's id.
    pub agent_id: Uuid,
    /// The host's name.
    pub host: String,
}
