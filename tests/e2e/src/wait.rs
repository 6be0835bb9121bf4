//! Waiting. Invariant: every wait of the harness has an end, and says what did not come.

use std::process::{Child, ExitStatus};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context as _;

/// From one look to the next.
const EVERY: Duration = Duration::from_millis(20);

/// Looks again and again until the probe gives something: the one place where the harness polls,
/// for what announces itself by no event. `what` completes the sentence "… did not come".
///
/// # Errors
/// The probe's own, or that it gave nothing within `limit`.
pub async fn eventually<T>(
    what: &str,
    limit: Duration,
    mut probe: impl AsyncFnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let looking = async {
        let mut looks = tokio::time::interval(EVERY);
        loop {
            looks.tick().await;
            if let Some(found) = probe().await? {
                return Ok(found);
            }
        }
    };
    let found = tokio::time::timeout(limit, looking).await;
    found.with_context(|| format!("{what} did not come within {limit:?}"))?
}

/// Waits for a child's end where nothing can be awaited, such as in a `Drop`.
pub(crate) fn blocking_end(mut child: Child, limit: Duration) -> anyhow::Result<ExitStatus> {
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || ended.send(child.wait()));
    Ok(end.recv_timeout(limit).with_context(|| format!("no end within {limit:?}"))??)
}
