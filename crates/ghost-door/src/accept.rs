//! Taking the next connection, whatever the kernel says to that.

use std::io;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::Sparing;

/// Pause after the kernel refuses to accept, such as for want of file descriptors.
pub(crate) const PAUSE: Duration = Duration::from_millis(100);

/// The next connection, or `None` once `closing` is cancelled. `next` accepts one; `refusals` is asked before it is logged that it could not.
pub async fn accept<T, F: Future<Output = io::Result<T>>>(
    closing: &CancellationToken,
    refusals: &Sparing,
    next: impl Fn() -> F,
) -> Option<T> {
    loop {
        match closing.run_until_cancelled(next()).await? {
            Ok(connection) => return Some(connection),
            Err(error) => {
                if let Some(left_out) = refusals.turn() {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::warn!(error, left_out, "cannot accept connections now");
                }
                closing.run_until_cancelled(tokio::time::sleep(PAUSE)).await?;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_kernel_that_refuses_is_asked_again_until_the_door_closes() {
        let (closing, refusals, asked) =
            (CancellationToken::new(), Sparing::default(), AtomicU32::new(0));
        let next = || async {
            match asked.fetch_add(1, Ordering::Relaxed) {
                2 => Ok("a caller"),
                _ => Err(io::Error::other("no file descriptors")),
            }
        };
        assert_eq!(accept(&closing, &refusals, next).await, Some("a caller"));
        closing.cancel();
        assert_eq!(accept(&closing, &refusals, next).await, None);
        assert_eq!(asked.load(Ordering::Relaxed), 3);
    }
}
