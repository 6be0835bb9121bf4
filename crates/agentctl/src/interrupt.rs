//! Invariant: a command that runs until it is told to stop ends by itself on Ctrl-C, and leaves the
//! terminal as it was.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::errors::{Exit, Failure};

/// The signals that end a command in good order.
#[derive(Debug)]
struct Interrupt {
    signals: [Signal; 3],
}

impl Interrupt {
    fn listen() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind)
                .map_err(|error| Failure::local(format!("cannot listen for signals: {error}")))
        };
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Self { signals })
    }

    async fn wait(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}

/// Runs `work` until it ends, or Ctrl-C (or SIGTERM, SIGHUP) ends it well.
pub(crate) async fn until_interrupted<F>(work: F) -> Result<Exit, Failure>
where
    F: Future<Output = Result<Exit, Failure>>,
{
    or_interrupted(work, || Ok(Exit::Done)).await
}

/// Runs `work` until it ends, or Ctrl-C (or SIGTERM, SIGHUP) drops it; then `left` says how that ends.
pub(crate) async fn or_interrupted<T>(
    work: impl Future<Output = Result<T, Failure>>,
    left: impl FnOnce() -> Result<T, Failure>,
) -> Result<T, Failure> {
    let mut interrupt = Interrupt::listen()?;
    tokio::select! {
        outcome = work => outcome,
        () = interrupt.wait() => left(),
    }
}
