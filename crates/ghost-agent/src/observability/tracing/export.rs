//! From the queue to the collector.

use ghost_core::domain::cause;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter as _, SpanProcessor};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::Endpoint;
use url::Url;

use super::{Source, semantics};
use crate::grpc::call::chain;

/// Spans that wait at most.
const WAITING: usize = 4096;
/// Spans of one export at most.
const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_millis(500);
/// How long an export may take.
const EXPORT_LIMIT: Duration = Duration::from_secs(5);
/// How long a collector that did not answer is left alone.
const REST: Duration = Duration::from_secs(5);
/// How long the last spans may take.
const FLUSH_LIMIT: Duration = Duration::from_secs(2);
/// How often it is said at most that spans come too fast.
const SAID_EVERY: Duration = Duration::from_secs(60);

/// Takes in spans that ended.
#[derive(Debug)]
pub(super) struct Queue {
    spans: mpsc::Sender<SpanData>,
    lost: Arc<AtomicU64>,
}

/// What is to export the spans of the layer; until it is started they wait, as far as there is room.
#[derive(Debug)]
pub struct Exporting {
    endpoint: Url,
    spans: mpsc::Receiver<SpanData>,
    lost: Arc<AtomicU64>,
    rest: Duration,
}

/// The export, under way.
#[derive(Debug)]
pub struct Running {
    ending: CancellationToken,
    task: JoinHandle<()>,
}

pub(super) fn queue(endpoint: Url) -> (Queue, Exporting) {
    let (sender, spans) = mpsc::channel(WAITING);
    let lost = Arc::<AtomicU64>::default();
    (
        Queue { spans: sender, lost: Arc::clone(&lost) },
        Exporting { endpoint, spans, lost, rest: REST },
    )
}

impl SpanProcessor for Queue {
    fn on_start(&self, _span: &mut Span, _context: &Context) {}

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.spans.try_send(span).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _limit: Duration) -> OTelSdkResult {
        Ok(())
    }
}

impl Exporting {
    #[cfg(test)]
    pub(super) fn resting(self, rest: Duration) -> Self {
        Self { rest, ..self }
    }

    #[cfg(test)]
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Begins to export, in a task of its own.
    #[must_use]
    pub fn start(self, source: &Source) -> Running {
        let (ending, resource) = (CancellationToken::new(), resource(source));
        let (until, tasks) = (ending.clone(), TaskTracker::new());
        let task = tasks.spawn(async move {
            let endpoint = self.endpoint.clone();
            match exporter(&endpoint, &resource) {
                Ok(exporter) => Export::new(self, exporter).run(until).await,
                Err(error) => tracing::error!(
                    %endpoint,
                    error = cause(&error),
                    "traces can't be exported; see tracing.otlp_endpoint and the OTEL_EXPORTER_OTLP_ variables of the environment"
                ),
            }
        });
        Running { ending, task }
    }
}

impl Running {
    /// Exports what is left, within 2 s.
    pub async fn end(mut self) {
        self.ending.cancel();
        if timeout(FLUSH_LIMIT, &mut self.task).await.is_err() {
            self.task.abort();
            tracing::warn!("the collector of traces was too slow for the last spans");
        }
    }
}

/// Who the spans are of (OpenTelemetry's conventions for resources).
fn resource(source: &Source) -> Resource {
    let attributes = [
        KeyValue::new("service.name", "ghost-agent"),
        KeyValue::new("service.version", crate::VERSION),
        KeyValue::new("service.instance.id", source.agent_id.to_string()),
        KeyValue::new("host.name", source.host.clone()),
    ];
    Resource::builder_empty().with_attributes(attributes).build()
}

fn exporter(
    endpoint: &Url,
    resource: &Resource,
) -> Result<opentelemetry_otlp::SpanExporter, ExporterBuildError> {
    let channel = Endpoint::from_shared(endpoint.as_str().to_owned())
        .map_err(|error| ExporterBuildError::InternalFailure(chain(&error)))?
        .connect_timeout(EXPORT_LIMIT)
        .connect_lazy();
    let builder = opentelemetry_otlp::SpanExporter::builder().with_tonic();
    let mut exporter = builder.with_channel(channel).with_timeout(EXPORT_LIMIT).build()?;
    exporter.set_resource(resource);
    Ok(exporter)
}

/// Whether the collector takes spans, as far as was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Collector {
    Well,
    /// This was said.
    Away,
}

struct Export {
    from: Exporting,
    exporter: opentelemetry_otlp::SpanExporter,
    collector: Collector,
    /// Not yet delivered.
    batch: Vec<SpanData>,
    said: Option<Instant>,
}

impl Export {
    fn new(from: Exporting, exporter: opentelemetry_otlp::SpanExporter) -> Self {
        Self { from, exporter, collector: Collector::Well, batch: Vec::new(), said: None }
    }

    async fn run(mut self, until: CancellationToken) {
        while until.run_until_cancelled(self.gather()).await.is_some() {
            match self.deliver().await {
                Collector::Well => {}
                Collector::Away => drop(until.run_until_cancelled(sleep(self.from.rest)).await),
            }
        }
        self.from.spans.close();
        loop {
            self.gather().await;
            if self.batch.is_empty() || self.deliver().await == Collector::Away {
                return;
            }
        }
    }

    /// Adds the next spans to the batch; none if there will be no more. What was added stays if this is
    /// dropped.
    async fn gather(&mut self) {
        let Self { from: Exporting { spans, .. }, batch, .. } = self;
        if batch.is_empty() && spans.recv_many(batch, BATCH).await == 0 {
            return;
        }
        let due = Instant::now() + GATHER;
        while batch.len() < BATCH {
            let room = BATCH - batch.len();
            tokio::select! {
                more = spans.recv_many(batch, room) => if more == 0 { break },
                () = sleep_until(due) => break,
            }
        }
    }

    async fn deliver(&mut self) -> Collector {
        let batch = std::mem::take(&mut self.batch);
        let spans = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let batch = batch.into_iter().map(semantics::translate).collect();
        let exported = timeout(EXPORT_LIMIT, self.exporter.export(batch)).await;
        let cause = match exported {
            Ok(Ok(())) => {
                self.taken();
                return Collector::Well;
            }
            Ok(Err(error)) => chain(&error),
            Err(_elapsed) => format!("no answer in {} s", EXPORT_LIMIT.as_secs()),
        };
        self.from.lost.fetch_add(spans, Ordering::Relaxed);
        if self.collector == Collector::Well {
            tracing::warn!(
                endpoint = %self.from.endpoint, cause,
                "the collector of traces is away: spans are dropped, nothing else is affected; see whether it runs, or set tracing.otlp_endpoint to \"\""
            );
        }
        self.collector = Collector::Away;
        Collector::Away
    }

    /// The collector has taken a batch.
    fn taken(&mut self) {
        let lost = self.from.lost.load(Ordering::Relaxed);
        match self.collector {
            Collector::Away => {
                tracing::info!(lost, "the collector of traces is back");
                self.from.lost.fetch_sub(lost, Ordering::Relaxed);
            }
            Collector::Well if lost > 0 => {
                if self.said.is_none_or(|said| said.elapsed() >= SAID_EVERY) {
                    tracing::warn!(
                        lost,
                        "spans come faster than they can be exported; lower tracing.sample_ratio"
                    );
                    self.said = Some(Instant::now());
                    self.from.lost.fetch_sub(lost, Ordering::Relaxed);
                }
            }
            Collector::Well => {}
        }
        self.collector = Collector::Well;
    }
}
