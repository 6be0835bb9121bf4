//! A sign that a task turns. Invariant: a count stands still only if nobody polled its task, or its work, for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ghost_core::ports::Clock;

/// From one beat to the next, and from one snapshot of the health to the next.
pub const EVERY: Duration = Duration::from_secs(5);

/// Counts the turns of one task.
#[derive(Debug, Clone, Default)]
pub struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// The task has turned.
    pub fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// How often it has.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Beats for ever; to be joined with what the task does, so that a deadlock there stops it.
    pub async fn keep(self, clock: Arc<dyn Clock>) {
        loop {
            self.beat();
            clock.sleep(EVERY).await;
        }
    }
}
