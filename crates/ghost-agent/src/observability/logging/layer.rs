//! From what is said to its lines. Invariant: each line is written by the one who says it into buffers of his own, and is handed
//! on without waiting.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ghost_core::ports::Clock;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::level::index;
use super::line::{Field, Line, Said};
use super::queue::Queue;
use super::ring::Ring;
use super::text::Palette;
use super::{journal, json, text};

/// How an output wants its lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rendering {
    Json,
    Text(Palette),
    Journal,
}

/// Where lines go.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) rendering: Rendering,
    pub(super) queue: Arc<Queue>,
}

/// Where all lines go, and their counters.
#[derive(Debug)]
pub(super) struct Outputs {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ring: Mutex<Ring>,
    pub(super) all: Vec<Output>,
    /// From debug to error.
    pub(super) counts: [AtomicU64; 4],
}

impl Drop for Outputs {
    fn drop(&mut self) {
        self.all.iter().for_each(|output| output.queue.close());
    }
}

/// What a span adds to each line inside it.
struct SpanFields(Arc<Vec<Field>>);

/// What a buffer may keep of its memory.
const KEPT_BYTES: usize = 16 << 10;

#[derive(Debug, Default)]
struct Buffers {
    json: String,
    other: String,
    entry: Vec<u8>,
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
    /// This thread is writing a line: what panics meanwhile must not begin another.
    static WRITING: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread is writing a line.
pub(super) fn is_writing() -> bool {
    WRITING.get()
}

impl Outputs {
    fn write(&self, line: &Line<'_>) {
        // Only a thread that ends has no buffers any more.
        let _written = BUFFERS.try_with(|buffers| {
            let buffers = &mut *buffers.borrow_mut();
            WRITING.set(true);
            self.counts[index(line.level)].fetch_add(1, Ordering::Relaxed);
            let Buffers { json, other, entry } = buffers;
            json.clear();
            json::write(line, json);
            self.ring.lock().unwrap_or_else(PoisonError::into_inner).push(json);
            for output in &self.all {
                match output.rendering {
                    Rendering::Json => output.queue.push(json.as_bytes()),
                    Rendering::Text(palette) => {
                        other.clear();
                        text::write(line, palette, other);
                        output.queue.push(other.as_bytes());
                    }
                    Rendering::Journal => {
                        entry.clear();
                        journal::write(line, entry);
                        output.queue.push(entry);
                    }
                }
            }
            json.shrink_to(KEPT_BYTES);
            other.shrink_to(KEPT_BYTES);
            entry.shrink_to(KEPT_BYTES);
            WRITING.set(false);
        });
    }
}

/// The layer that writes lines.
#[derive(Debug)]
pub(super) struct Lines(pub(super) Arc<Outputs>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut said = Said::default();
        attributes.record(&mut said);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(Arc::new(said.fields)));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        values.record(&mut said);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>()
        {
            let mut all = Said { fields: (**fields).clone(), ..Said::default() };
            said.fields.into_iter().for_each(|field| all.add(field.name, field.value));
            *fields = Arc::new(all.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut said = Said::default();
        event.record(&mut said);
        said.classify();
        let fields_of = |span: tracing_subscriber::registry::SpanRef<'_, S>| {
            Some(Arc::clone(&span.extensions().get::<SpanFields>()?.0))
        };
        let spans = context.event_scope(event).into_iter().flatten().filter_map(fields_of);
        let what = event.metadata();
        self.0.write(&Line {
            at: self.0.clock.now(),
            level: *what.level(),
            target: what.target(),
            place: what.file().zip(what.line()),
            event: said,
            spans: spans.collect(),
        });
    }
}
