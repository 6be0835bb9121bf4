//! Work that changes something. Invariant: once begun it is done to its end, whether its caller waits or has hung
//! up: what the store has and what is in memory would differ otherwise.

use std::time::Duration;

use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::refusal::Refusal;

/// Does `work`, and waits for it no longer than `limit`.
///
/// # Errors
/// Those of `work`; [`Refusal::Slow`] when the time is over.
pub(super) async fn to_the_end<T: Send + 'static>(
    tasks: &TaskTracker,
    limit: Duration,
    work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Refusal> {
    match tokio::time::timeout(limit, tasks.spawn(work.in_current_span())).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(Refusal::Died),
        Err(_) => Err(Refusal::Slow),
    }
}
