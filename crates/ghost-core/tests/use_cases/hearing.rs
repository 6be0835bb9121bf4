//! A log for tests: whatever is said inside goes to who listens, span fields left out.

use tracing::field::Visit;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Hands each event's fields to a clone of the listener.
#[derive(Debug)]
pub(crate) struct Hearing<L>(pub(crate) L);

impl<L: Visit + Clone + Send + Sync + 'static> Subscriber for Hearing<L> {
    fn enabled(&self, what: &Metadata<'_>) -> bool {
        what.is_event()
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        event.record(&mut self.0.clone());
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
