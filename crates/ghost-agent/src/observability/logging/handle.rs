//! What the rest of the agent does with the log.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use ghost_core::ports::Clock;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::layer::{Outputs, Rendering};
use super::level::{ALWAYS, LevelNow, Switch};
use super::ring::Ring;
use crate::config::LogLevel;

/// The `SIGHUP`s that come: until they are awaited, one ends the process.
#[derive(Debug)]
pub struct Hangups(Signal);

impl Hangups {
    /// Awaits them, from now on.
    ///
    /// # Errors
    /// What the operating system says of it.
    pub fn awaited(runtime: &Runtime) -> std::io::Result<Self> {
        let _inside = runtime.enter();
        signal(SignalKind::hangup()).map(Self)
    }
}

/// The log that runs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    outputs: Arc<Outputs>,
    switch: Arc<Switch>,
}

impl LogHandle {
    pub(super) fn new(outputs: Arc<Outputs>, switch: Arc<Switch>) -> Self {
        Self { outputs, switch }
    }

    /// A log of nothing, for what needs one and logs nowhere.
    #[must_use]
    pub fn detached(clock: Arc<dyn Clock>) -> Self {
        let outputs = Outputs {
            clock,
            ring: std::sync::Mutex::<Ring>::default(),
            all: Vec::new(),
            counts: Default::default(),
        };
        Self::new(Arc::new(outputs), Arc::new(Switch::new(LogLevel::Info)))
    }

    /// The level in force.
    #[must_use]
    pub fn level(&self) -> LevelNow {
        self.switch.now()
    }

    /// Sets the level, for a time or until the agent ends; `None` goes back to the configuration's. The log says so,
    /// whatever the level.
    pub fn set_level(&self, level: Option<LogLevel>, time: Option<Duration>) {
        let was = self.level().level.as_str();
        self.switch.set(level, time, &*self.outputs.clock);
        let now = self.level();
        let until = now.until.map(|until| format!("{until:.0}"));
        tracing::warn!(target: ALWAYS, was, now = now.level.as_str(), until, "the level of the log was set");
    }

    /// Opens the log file anew: it was moved.
    pub fn reopen(&self) {
        self.outputs.all.iter().for_each(|output| output.queue.reopen());
    }

    /// The last lines, at most `most`, the oldest first: each a JSON object, whatever the format of the log.
    #[must_use]
    pub fn recent(&self, most: usize) -> Vec<String> {
        self.outputs.ring.lock().unwrap_or_else(PoisonError::into_inner).last(most)
    }

    /// Lines that were lost since the start, counted for each output.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.outputs.all.iter().map(|output| output.queue.dropped()).sum()
    }

    /// Lines since the start, of each level.
    #[must_use]
    pub fn lines(&self) -> [(LogLevel, u64); 4] {
        let levels = [LogLevel::Debug, LogLevel::Info, LogLevel::Warn, LogLevel::Error];
        let count = |n: usize| self.outputs.counts[n].load(Ordering::Relaxed);
        std::array::from_fn(|n| (levels[n], count(n)))
    }

    /// Whether each line is in systemd's journal, where standard error ends too.
    #[must_use]
    pub fn is_in_journal(&self) -> bool {
        self.outputs.all.iter().any(|output| output.rendering == Rendering::Journal)
    }

    /// Waits until all lines are written, at most for `limit`.
    pub fn flush(&self, limit: Duration) {
        self.outputs.all.iter().for_each(|output| output.queue.flush(limit));
    }

    /// Opens the file anew on each of `hangups`, and takes a level back when its time is over; for ever.
    pub async fn keep(self, Hangups(mut hangups): Hangups) {
        loop {
            tokio::select! {
                () = self.switch.over(&*self.outputs.clock) => self.say_over(),
                hangup = hangups.recv() => match hangup {
                    Some(()) => {
                        self.reopen();
                        tracing::info!("told by SIGHUP to open the log file anew");
                    }
                    None => return,
                },
            }
        }
    }

    fn say_over(&self) {
        let now = self.level().level.as_str();
        tracing::warn!(target: ALWAYS, now, "the level of the log is the configuration's again");
    }

    /// As [`Self::keep`], without hangups.
    #[cfg(test)]
    pub(super) async fn keep_level(&self) {
        self.switch.over(&*self.outputs.clock).await;
        self.say_over();
    }
}
